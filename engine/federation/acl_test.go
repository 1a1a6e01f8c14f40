package federation

import (
	"strings"
	"testing"

	"hearth/engine/mxid"
)

func TestACL(t *testing.T) {
	for _, c := range []struct {
		content string
		allowed string // servers, one space between
		denied  string
	}{
		{`{}`, "", "a.example"},
		{`{"allow":["*"]}`, "a.example a.example:8448 1.2.3.4 [::1]:80", ""},
		{`{"allow":["*"],"allow_ip_literals":false}`, "a.example", "1.2.3.4 1.2.3.4:80 [::1] [::1]:80"},
		{`{"allow":["*"],"allow_ip_literals":"no"}`, "1.2.3.4", ""},
		{`{"allow":["*"],"deny":["*.Evil.example","evil.example"]}`, "good.example notevil.example", "evil.example EVIL.example:1 a.evil.example"},
		{`{"allow":["*.example"],"deny":["?.example"]}`, "ab.example", "a.example a.org"},
		{`{"allow":["*"],"deny":"*"}`, "a.example", ""},
		{`{"allow":["*"],"deny":[1,{},null,"b.example"]}`, "a.example", "b.example"},
		{`{"allow":"*"}`, "", "a.example"},
		{`{"allow":["a*b*c.example"]}`, "abc.example axxbyyc.example", "ab.example abc.exampl"},
	} {
		for _, s := range strings.Fields(c.allowed) {
			if !aclAllows([]byte(c.content), mxid.Server(s)) {
				t.Errorf("%s keeps %s out", c.content, s)
			}
		}
		for _, s := range strings.Fields(c.denied) {
			if aclAllows([]byte(c.content), mxid.Server(s)) {
				t.Errorf("%s lets %s in", c.content, s)
			}
		}
	}
	long := strings.Repeat("*a", 500)
	if matches(long+"b", strings.Repeat("a", 2000)) {
		t.Error("a pattern that ends otherwise fits")
	}
}
