package account

import (
	"testing"

	"hearth/engine/fault"
)

func TestCanonicalPhone(t *testing.T) {
	for _, c := range []struct{ country, number, want string }{
		{"GB", "07700 900001", "447700900001"}, {"gb", "+44 7700-900001", "447700900001"}, {"GB", "0044 7700 900001", "447700900001"},
		{"US", "(202) 555-0123", "12025550123"}, {"CA", "2025550123", "12025550123"}, {"DE", "030/123456", "4930123456"},
		{"IT", "06 1234567", "39061234567"}, {"UZ", "901234567", "998901234567"}, {"", "+4930123456", "4930123456"},
		{"XX", "07700900001", ""}, {"", "07700900001", ""}, {"44:", "07700900001", ""}, {"GB", "12", ""}, {"GB", "call me", ""},
		{"GB", "+1234567890123456", ""}, {"GB", "+0123456789", ""}, {"GB", "1+2345678", ""}, {"GB", "", ""},
	} {
		got, err := CanonicalPhone(c.country, c.number)
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s %q: %q, %v", c.country, c.number, got, err)
		}
	}
}
