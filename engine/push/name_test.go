package push

import "testing"

func TestCalled(t *testing.T) {
	for _, c := range []struct {
		names []string
		there int
		want  string
	}{
		{nil, 0, "Empty room"}, {[]string{"Ann"}, 1, "Ann"}, {[]string{"Ann", "Ben"}, 2, "Ann and Ben"},
		{[]string{"Ann", "Ben", "Cy"}, 3, "Ann, Ben and Cy"}, {[]string{"Ann", "Ben"}, 7, "Ann, Ben and 5 others"},
		{[]string{"Ann", "Ben"}, 0, "Empty room (was Ann, Ben)"},
	} {
		if got := called(c.names, c.there); got != c.want {
			t.Errorf("%v of %d: %q, want %q", c.names, c.there, got, c.want)
		}
	}
}
