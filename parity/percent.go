package parity

import "fmt"

// percent writes a part of 1 so that 100% means all.
func percent(p float64) string {
	switch {
	case p == 1:
		return "100%"
	case p > 0.9999:
		return fmt.Sprintf("%.5f%%", 100*p)
	}
	return fmt.Sprintf("%.4g%%", 100*p)
}
