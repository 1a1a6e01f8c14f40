package appservice

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine/mxid"
)

// Registrations in the form in which well-known software writes them.
func TestRegistrationsOfBridges(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 4)
	tokens := "as_token: A" + long + "\nhs_token: " + long + "\n"
	for _, tt := range []struct {
		name, text             string
		id                     string
		sender                 mxid.UserID
		url                    string
		theirs, owned, foreign []string // users it speaks for; those that nobody else may have; neither
		limited, ephemeral     bool
		encrypted              bool
	}{
		{name: "mautrix, encrypted", id: "whatsapp", sender: "@xYz0:hub.example", url: "http://localhost:29318", ephemeral: true, encrypted: true,
			text: "id: whatsapp\nurl: http://localhost:29318\n" + tokens + "sender_localpart: xYz0\nrate_limited: false\nnamespaces:\n    users:\n" +
				"        - regex: ^@whatsappbot:hub\\.example$\n          exclusive: true\n        - regex: ^@whatsapp_.*:hub\\.example$\n          exclusive: true\n" +
				"de.sorunome.msc2409.push_ephemeral: true\nreceive_ephemeral: true\nio.element.msc4190: true\norg.matrix.msc3202: true\n",
			owned: []string{"@whatsappbot:hub.example", "@whatsapp_491:hub.example", "@xYz0:hub.example"}, foreign: []string{"@whatsappbot2:hub.example", "@whatsapp_1:other.example"}},
		{name: "double puppets: told nothing, and of all people", id: "doublepuppet", sender: "@q:hub.example",
			text:   "# no address\nid: doublepuppet\nurl:\n" + tokens + "sender_localpart: q\nrate_limited: false\nnamespaces:\n  users:\n  - regex: '@.*:hub\\.example'\n    exclusive: false\n",
			theirs: []string{"@amy:hub.example"}, owned: []string{"@q:hub.example"}},
		{name: "a bridge of IRC in Node.js", id: "irc", sender: "@ircbot:hub.example", url: "http://irc:9999",
			text: "id: irc\nhs_token: " + long + "\nas_token: A" + long + "\nnamespaces:\n  users:\n    - exclusive: true\n      regex: '@irc_.*:hub.example'\n" +
				"  aliases:\n    - exclusive: true\n      regex: '#irc_.*:hub.example'\n  rooms: []\nurl: 'http://irc:9999/'\nsender_localpart: ircbot\nrate_limited: false\nprotocols:\n  - irc\n",
			owned: []string{"@irc_amy:hub.example"}, foreign: []string{"@irc:hub.example"}},
		{name: "heisenbridge, with no end in its expressions", id: "heisenbridge", sender: "@heisenbridge:hub.example", url: "http://127.0.0.1:9898",
			text: "as_token: A" + long + "\nhs_token: " + long + "\nid: heisenbridge\nnamespaces:\n  aliases: []\n  rooms: []\n  users:\n  - exclusive: true\n    regex: '@irc_.*'\n" +
				"rate_limited: false\nsender_localpart: heisenbridge\nurl: http://127.0.0.1:9898\n",
			owned: []string{"@irc_x:hub.example"}},
		{name: "hookshot: shared names, encrypted, a document mark", id: "hookshot", sender: "@hookshot:hub.example", url: "http://hookshot:9993", ephemeral: true, encrypted: true,
			text: "---\n" + tokens + "id: hookshot\nde.sorunome.msc2409.push_ephemeral: true\npush_ephemeral: true\norg.matrix.msc3202: true\nnamespaces:\n  rooms: []\n  users:\n" +
				"    - regex: \"@_github_.*:hub.example\"\n      exclusive: false\n    - regex: \"@feeds:hub.example\"\n      exclusive: false\n" +
				"sender_localpart: hookshot\nurl: http://hookshot:9993\nrate_limited: false\n",
			theirs: []string{"@_github_x:hub.example", "@feeds:hub.example"}, owned: []string{"@hookshot:hub.example"}},
		{name: "in JSON, with what others add", id: "7", sender: "@bot:hub.example", url: "https://bot.example:8443/as", limited: true,
			text: `{"id":7,"url":"https://bot.example:8443/as","as_token":"A` + long + `","hs_token":"` + long + `","sender_localpart":"bot","x":{"y":[1]},` +
				`"namespaces":{"users":[{"exclusive":true,"regex":"@b_[0-9]+:hub\\.example","group_id":"+b:hub.example"}],"aliases":null}}`,
			owned: []string{"@b_1:hub.example"}, foreign: []string{"@b_x:hub.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse([]byte(tt.text), "hub.example")
			if err != nil {
				t.Fatal(err)
			}
			set, err := NewSet([]*Service{s})
			if err != nil {
				t.Fatal(err)
			}
			if s.ID != tt.id || s.Sender != tt.sender || s.URL != tt.url || s.RateLimited != tt.limited || s.Ephemeral != tt.ephemeral || s.Encrypted != tt.encrypted ||
				set.ByToken([]byte("A"+long)) != s || s.HSToken() != long {
				t.Errorf("%+v", s)
			}
			for i, list := range [][]string{tt.theirs, tt.owned, tt.foreign} {
				for _, id := range list {
					id := mxid.UserID(id)
					if s.User(id) != (i < 2) || (set.Owner(id) == s) != (i == 1) || set.Takes(id) != (i == 1 && tt.encrypted) {
						t.Errorf("%s: speaks %v, alone %v, takes %v", id, s.User(id), set.Owner(id) == s, set.Takes(id))
					}
				}
			}
		})
	}
}

// A folder of registrations is all files in it that look like ones; an error
// names the file.
func TestLoadFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, id string) {
		text := fmt.Sprintf("id: %s\nas_token: token-of-%s\nhs_token: token-for-%s\nsender_localpart: %s\n", id, id, id, id)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "one")
	write("b.yml", "two")
	write("c.json.bak", "three")
	single := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(single, []byte(`{"id":"four","as_token":"token-of-four","hs_token":"token-for-four","sender_localpart":"four"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := Load([]string{dir, single}, "hub.example")
	if err != nil || len(set.All()) != 3 || set.ByID("one") == nil || set.ByID("two") == nil || set.ByID("four") == nil {
		t.Fatal(set, err)
	}
	write("d.yaml", "one")
	if _, err := Load([]string{dir}, "hub.example"); err == nil || !strings.Contains(err.Error(), "same id") {
		t.Error(err)
	}
	write("d.yaml", "a:b")
	if _, err := Load([]string{dir}, "hub.example"); err == nil || !strings.Contains(err.Error(), "d.yaml") {
		t.Error(err)
	}
}
