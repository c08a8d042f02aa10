package serde

import (
	"strconv"
	"strings"

	"ossify/harmony"
)

// isFloat reports whether a Number is no integer of 64 bits.
func isFloat(v harmony.Value) bool { return strings.ContainsAny(v.Text, ".e") }

// unique returns v with every name once in every object.
func unique(v harmony.Value) harmony.Value {
	switch v.Kind {
	case harmony.Array:
		items := make([]harmony.Value, len(v.Items))
		for i, e := range v.Items {
			items[i] = unique(e)
		}
		v.Items = items
	case harmony.Object:
		members := make([]harmony.Member, 0, len(v.Members))
		place := make(map[string]int, len(v.Members))
		for _, m := range v.Members {
			m.Value = unique(m.Value)
			if i, ok := place[m.Name]; ok {
				members[i] = m
				continue
			}
			place[m.Name] = len(members)
			members = append(members, m)
		}
		v.Members = members
	}
	return v
}

// floatText prints f as Rust's ryu does: shortest digits that read back as f,
// plain between 1e-5 and 1e16 and then with a point, else with an exponent.
func floatText(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	mantissa, exp, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exp)
	digits := strings.Replace(mantissa, ".", "", 1)
	switch point := e + 1; { // digits before the point
	case f == 0:
		return sign + "0.0"
	case len(digits) <= point && point <= 16:
		return sign + digits + strings.Repeat("0", point-len(digits)) + ".0"
	case 0 < point && point <= 16:
		return sign + digits[:point] + "." + digits[point:]
	case -5 < point && point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + digits
	}
	return sign + mantissa + "e" + strconv.Itoa(e)
}
