// ROUNDING loads the words of a rounding.
#define ROUNDING(r) \
	VPBROADCASTD 0(r), Z28; \
	VPBROADCASTD 4(r), Z29; \
	VPBROADCASTD 8(r), Z30; \
	VPBROADCASTD 12(r), Z31

// ROUND rounds v, by way of t.
#define ROUND(v, t) \
	VPSRLD $16, v, t;      \
	VPANDD Z28, t, t;      \
	VPADDD Z29, t, t;      \
	VPADDD v, t, t;        \
	VCMPPS $3, v, v, K1; \
	VPORD  Z30, v, K1, t;  \
	VPANDD Z31, t, v
