package image

import (
	"strings"
	"testing"

	"hearth/firmware/boot"
)

func TestBoards(t *testing.T) {
	all, err := Boards()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d boards, %v", len(all), err)
	}
	for _, b := range all {
		if b.Name == "" || b.What == "" || b.Kernel == "" || b.Cmdline == "" || b.Loader != "uefi" && b.Loader != "raspberry" {
			t.Errorf("%+v", b)
		}
		if found, err := FindBoard(b.Name); err != nil || found.What != b.What {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
	if _, err := FindBoard("toaster"); err == nil || !strings.Contains(err.Error(), "virt") {
		t.Errorf("an unknown board: %v", err)
	}
}

// TestSettings: what --set writes is what a box reads.
func TestSettings(t *testing.T) {
	text, err := settings([]string{"server_name=hub.example", `box_hostname = "porch"`, "media_keep_days=7", `mqtt_listen=["0.0.0.0:1883"]`, `terms_url=a"b`,
		"box_wifi_ssid=4711", `box_wifi_password=back\slash "quoted"`, "box_claim_code=123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := boot.ParseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nserver_name = \"hub.example\"\n", "\nmedia_keep_days = 7\n", "\nmqtt_listen = [\"0.0.0.0:1883\"]\n", `terms_url = "a\"b"`} {
		if !strings.Contains(string(s.Hub), want) {
			t.Errorf("no %q in\n%s", want, s.Hub)
		}
	}
	if s.Hostname != "porch" || len(text) > 4096 {
		t.Errorf("hostname %q, %d bytes", s.Hostname, len(text))
	}
	if s.Wifi.SSID != "4711" || s.Wifi.Password != `back\slash "quoted"` || s.Claim != "123456789012" {
		t.Errorf("the box reads %+v", s)
	}
	for _, bad := range []string{"server_name", "Server=x", "a=b\nc=d", "box_wings=two", "box_wifi_password=without a network", "box_reset=all"} {
		if _, err := settings([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
