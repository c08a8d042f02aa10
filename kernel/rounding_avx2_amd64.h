// ROUNDING loads the words of a rounding.
#define ROUNDING(r) \
	VPBROADCASTD 0(r), Y12; \
	VPBROADCASTD 4(r), Y13; \
	VPBROADCASTD 8(r), Y14; \
	VPBROADCASTD 12(r), Y15

// ROUND rounds v, by way of t and m.
#define ROUND(v, t, m) \
	VPSRLD $16, v, t;   \
	VPAND  Y12, t, t;   \
	VPADDD Y13, t, t;   \
	VCMPPS $3, v, v, m; \
	VPANDN t, m, t;     \
	VPADDD v, t, t;     \
	VPAND  Y14, m, m;   \
	VPOR   m, t, t;     \
	VPAND  Y15, t, v
