// Package config is the one place that reads the hub's settings: from flags,
// environment variables and one TOML file, in this order of strength.
//
// The fields of Config are the whole truth about the settings: their tags make
// the help, the sample file and the reference, which therefore cannot drift. It
// refuses what it does not understand: an unknown key, a size without a unit and
// a word that is not one of the choices are errors that name the file and the
// line, because a setting that is silently ignored is found out on the worst
// day. Packages below take small option structs and never read settings.
package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"hearth/engine/bridge"
	"hearth/engine/budget"
)

// Config is every setting of the hub. A field's tags are: key, the name in the
// file (a flag has hyphens for the underscores, a variable HEARTH_ and
// capitals); arg, what stands for a value in help; def, the default; help, the
// text, whose first line says the most.
type Config struct {
	ServerName string `key:"server_name" arg:"NAME" def:"" help:"the name that users, rooms and aliases of this hub end with.\nIt can never change: it is part of every signed event. On an empty data folder\nit is localhost, which is good for a trial on one machine and for nothing else;\nafterwards it is what the folder was made for."`
	DataDir    string `key:"data_dir" arg:"FOLDER" def:"hearth-data" help:"where everything is kept; made when it is not there."`

	ClientListen     string   `key:"client_listen" arg:"ADDRESS" def:"127.0.0.1:8008" help:"where clients reach the hub, in plain HTTP; empty: nowhere.\n0.0.0.0:8008 lets in the whole network, unencrypted: put a proxy that speaks TLS\nin front where the network is not yours."`
	FederationListen string   `key:"federation_listen" arg:"ADDRESS" def:"" help:"where other servers reach the hub, as 0.0.0.0:8448, in TLS; empty: nowhere.\nThe same API for clients is there too. Without tls_cert or acme the hub makes a\ncertificate of its own, which encrypts but proves nothing: servers and clients\nrefuse it unless they are told to trust it."`
	MQTTListen       []string `key:"mqtt_listen" arg:"ADDRESSES" def:"" help:"where things reach the hub by MQTT, separated by commas; empty: nowhere.\n127.0.0.1:1883 is plain, tls://0.0.0.0:8883 encrypts and takes the certificates of\nhearth thing cert too. Plain MQTT shows secrets to the whole network."`
	MDNS             bool     `key:"mdns" arg:"on|off" def:"on" help:"whether the hub is found on the local network: it answers for HOSTNAME.local and\nannounces what listens beyond this machine (_matrix._tcp, _mqtt._tcp, _http._tcp)."`
	TLSCert          string   `key:"tls_cert" arg:"FILE" def:"" help:"certificate chain in PEM for federation_listen; read again when it changes."`
	TLSKey           string   `key:"tls_key" arg:"FILE" def:"" help:"private key of tls_cert in PEM."`
	ACME             string   `key:"acme" arg:"EMAIL or URL" def:"" help:"in place of tls_cert: the hub gets its certificate, and a new one in time, from\nLet's Encrypt, which writes to this address when something is wrong; or from the\nACME directory at this URL. To set it is to agree to the terms of that authority.\nIt has to reach the hub from outside: port 443 of the name must lead to\nfederation_listen, or port 80 to client_listen."`
	PublicURL        string   `key:"public_url" arg:"URL" def:"" help:"where clients reach the hub from outside, as https://hub.example;\nempty: not told, clients have to know it."`

	Federation        string `key:"federation" arg:"on, off or NAMES" def:"on" help:"which other servers the hub speaks with: all, none, or only those whose names\nare given, separated by commas."`
	FederationAddress string `key:"federation_address" arg:"NAME:PORT" def:"" help:"where other servers are to look for the hub, as hub.example:443; empty: where its\nname leads them, at port 8448. The hub tells those who ask at\nhttps://NAME/.well-known/matrix/server, which has to lead to one of its listeners;\nits certificate has to be for this name then."`

	Registration       string `key:"registration" arg:"closed|token|open" def:"token" help:"who may make an account: closed, nobody; token, who has a registration token;\nopen, anyone. A fresh hub prints a claim code, the token that makes its first\nadmin; it works in every mode. hearth user add makes accounts in every mode too."`
	RegistrationSecret string `key:"registration_shared_secret_file" arg:"FILE" def:"" help:"file that holds the secret by which a program on this machine may make accounts."`
	Guests             bool   `key:"guests" arg:"on|off" def:"off" help:"whether anybody may come as a guest, without a password and with few rights."`
	RegistrationEmail  bool   `key:"registration_needs_email" arg:"on|off" def:"off" help:"whether new users have to prove an e-mail address; it needs mail_server."`
	TermsURL           string `key:"terms_url" arg:"URL" def:"" help:"where the terms stand that new users have to accept; empty: there are none."`
	PasswordMinLength  int    `key:"password_min_length" arg:"N" def:"8" least:"1" most:"128" help:"shortest password for a new account, in bytes."`
	RateLimits         bool   `key:"rate_limits" arg:"on|off" def:"on" help:"whether clients that ask too often are told to wait.\nOff is for benchmarks and for networks where every client is yours."`

	OIDCIssuer string `key:"oidc_issuer" arg:"URL" def:"" help:"an identity provider that speaks OpenID Connect, by which people log in; empty: none.\nWho it lets in gets an account. It has to let browsers back to the path\n/_matrix/client/unstable/sso/callback of public_url."`
	OIDCClient string `key:"oidc_client_id" arg:"NAME" def:"" help:"what the hub is called at oidc_issuer."`
	OIDCSecret string `key:"oidc_client_secret_file" arg:"FILE" def:"" help:"file that holds the secret by which it proves that; empty: there is none."`
	CASServer  string `key:"cas_server" arg:"URL" def:"" help:"the same by a CAS server, as https://cas.example/cas."`

	MailServer   string   `key:"mail_server" arg:"URL" def:"" help:"who sends the hub's e-mail, as smtp://name@mail.example:587; empty: it sends none.\nsmtp:// encrypts by STARTTLS, smtps:// from the first byte; plain:// not at all, for\na mail server on this machine. It needs mail_from and public_url."`
	MailPassword string   `key:"mail_password_file" arg:"FILE" def:"" help:"file that holds the password of the name in mail_server."`
	MailFrom     string   `key:"mail_from" arg:"ADDRESS" def:"" help:"who the hub's e-mail is from, as \"My hub <hub@example.org>\"."`
	SMSWebhook   string   `key:"sms_webhook" arg:"URL" def:"" help:"who sends the hub's text messages: it gets {\"to\": \"+44...\", \"text\": \"...\"} by POST;\nempty: the hub sends none. People then prove their phone numbers by a code. It needs\npublic_url. At most 5 messages a day go to one number, and 200 in all."`
	TURNServers  []string `key:"turn_uris" arg:"URIS" def:"" help:"servers that relay calls, as turn:turn.example:3478?transport=udp, separated by commas."`
	TURNSecret   string   `key:"turn_secret_file" arg:"FILE" def:"" help:"file that holds the secret shared with them (coturn: static-auth-secret)."`

	Identity    bool   `key:"identity" arg:"on|off" def:"off" help:"whether the hub is an identity service too: people bind their e-mail addresses and\nphone numbers to their users there, and are found and invited by them. It needs\npublic_url, and mail_server or sms_webhook. hearth identity runs one alone."`
	PushGateway bool   `key:"push_gateway" arg:"on|off" def:"off" help:"whether the hub is a push gateway too, at /_matrix/push/v1/notify of public_url:\nfor Web Push, UnifiedPush, and whatever listens by MQTT, which need nothing more."`
	PushApps    string `key:"push_apps" arg:"FILE" def:"" help:"apps that Apple's and Google's services wake, in JSON, with push_gateway:\n{\"apps\": [{\"app_id\": \"org.example.*\", \"kind\": \"fcm\", \"service_account_file\": \"...\"},\n{\"app_id\": ..., \"kind\": \"apns\", \"key_file\", \"key_id\", \"team_id\", \"topic\": ...}]}.\nOnly who publishes an app has these; files are looked for beside this one."`

	RoomVersion string `key:"default_room_version" arg:"1..12" def:"12" help:"the version of rooms made without naming one.\nSoftware that does not know version 12 yet, where a room's creator stands above\nall power levels, may need 11."`

	Retention Age `key:"retention" arg:"AGE" def:"" help:"how long the events of rooms are kept, as 90d, 12w or 2y; empty: for ever.\nOnce a day, at night, what is older is removed, without what a room's present state\nneeds. A room may have its own kept for less, at least a day, by the state event\nm.room.retention; where this is empty only one that somebody of this hub has set\ncounts. What telemetry keeps is not meant, nor are files: see media_keep_days."`

	MediaMaxUpload   Size     `key:"media_max_upload" arg:"SIZE" def:"20MiB" help:"the longest file that is taken."`
	MediaQuota       Size     `key:"media_quota" arg:"SIZE" def:"" help:"how much all files together may take; empty: all but the last 64MiB of the disk."`
	MediaUserQuota   Size     `key:"media_user_quota" arg:"SIZE" def:"" help:"how much the files of one user may take; empty: no limit of their own."`
	MediaKeepDays    int      `key:"media_keep_days" arg:"N" def:"0" least:"0" most:"36500" help:"after how many days that nobody fetched it a file is deleted; 0: never.\nCopies of other servers' files are deleted after 30."`
	MediaOpen        bool     `key:"media_open" arg:"on|off" def:"on" help:"whether files are served without a token under their old addresses.\nClients from before 2024 show no pictures otherwise. Who does not know the long\nrandom name of a file cannot fetch it either way."`
	URLPreviews      bool     `key:"url_previews" arg:"on|off" def:"on" help:"whether the hub fetches web pages to show clients what a link leads to."`
	URLPreviewsAllow []string `key:"url_previews_allow" arg:"NETWORKS" def:"" help:"networks that link previews may reach besides the public internet,\nas 192.168.1.0/24, separated by commas. Anyone with an account can look into them."`

	FederationCatchup int `key:"federation_catchup" arg:"N" def:"50000" least:"1" most:"10000000" help:"how many events another server that was away is brought in order when it is back.\nIf there are more it is told the newest of each room, and asks for what it wants."`

	KeyServers []string `key:"key_servers" arg:"SERVERS" def:"room" help:"who tells the signing keys of a server that does not answer for itself, as for old\nevents of one that is gone: names of servers, separated by commas, or the word room.\nroom: other servers in the room, where two agree and none says otherwise, for events\nolder than a week, of servers that the hub never knew. Such events are left out of\nthe room otherwise, which others may not do. Two that lie together can have a server\nthat is gone have said what it did not. Who is named here can forge any server's\nevents. Empty: nobody is asked."`

	AllowNetworks []string `key:"allow_networks" arg:"NETWORKS" def:"" help:"networks that the hub's own requests, to other servers and to push gateways,\nmay reach besides the public internet, as 192.168.1.0/24, separated by commas.\nTwo hubs on one local network need it to speak with each other."`

	MemoryLimit Size     `key:"memory_limit" arg:"SIZE" def:"" help:"how much memory the hub may take, as 96MiB; at least 40MiB.\nEmpty: a quarter of what the machine or its control group has, at most 128MiB."`
	AppServices []string `key:"appservices" arg:"FILES" def:"" help:"registration files of application services (bridges and bots), or folders of\nsuch files, separated by commas. They are read again when the hub gets the signal HUP."`
	LogLevel    string   `key:"log_level" arg:"debug|info|warn|error" def:"info" help:"the least important lines that are logged, on standard error."`

	// Mappings are the tables [[mapping]] of the file: which topics belong to which room.
	Mappings []*bridge.Mapping

	origin map[string]string // where each key that is not the default was set
}

// Size is a number of bytes; 0 stands for the default.
type Size int64

func (s Size) String() string {
	if s == 0 {
		return ""
	}
	return budget.Text(int64(s))
}

// Age is how old something may become; 0 stands for the default.
type Age time.Duration

// ages are the units of ages.
var ages = []struct {
	name string
	days int
}{{"d", 1}, {"w", 7}, {"y", 365}}

// maxAge is the oldest, in days.
const maxAge = 36_500

func (a Age) String() string {
	if a == 0 {
		return ""
	}
	return strconv.FormatInt(int64(time.Duration(a)/(24*time.Hour)), 10) + "d"
}

// ParseAge reads an age, whose unit has to be there: 90d, 12w or 2y.
func ParseAge(text string) (Age, error) {
	if text == "" {
		return 0, nil
	}
	for _, u := range ages {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= maxAge/u.days {
			return Age(time.Duration(n*u.days) * 24 * time.Hour), nil
		}
	}
	return 0, fmt.Errorf("%q is not an age such as 90d, 12w or 2y", text)
}

// units of sizes. Both kinds are taken, because both are written on boxes.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// parseSize reads a size, whose unit has to be there.
func parseSize(text string) (Size, error) {
	if text == "" {
		return 0, nil
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n <= 0 || n > (1<<50)/u.bytes {
			return 0, fmt.Errorf("%q is not a size such as 96MiB", text)
		}
		return Size(n * u.bytes), nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, fmt.Errorf("%q has no unit: write %sMiB, or what you mean (B, KiB, MiB, GiB, kB, MB, GB)", text, text)
	}
	return 0, fmt.Errorf("%q is not a size such as 96MiB", text)
}

// setting is one field with its tags.
type setting struct {
	key, arg, def, help string
	choices             []string // the words it may be; nil: anything
	least, most         int      // of a number
	field               reflect.Value
}

// settings lists the fields of c in order.
func (c *Config) settings() []setting {
	v := reflect.ValueOf(c).Elem()
	var all []setting
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		s := setting{key: tag.Get("key"), arg: tag.Get("arg"), def: tag.Get("def"), help: tag.Get("help"), field: v.Field(i)}
		if s.key == "" {
			continue
		}
		if strings.Contains(s.arg, "|") {
			s.choices = strings.Split(s.arg, "|")
		}
		s.least, _ = strconv.Atoi(tag.Get("least"))
		s.most, _ = strconv.Atoi(tag.Get("most"))
		all = append(all, s)
	}
	return all
}

// flag and env are the setting's other names.
func (s *setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }
func (s *setting) env() string  { return "HEARTH_" + strings.ToUpper(s.key) }

// quoted says whether the value is text in the file.
func (s *setting) quoted() bool { return s.field.Kind() != reflect.Int }

// set reads a value from text, as flags and variables give it.
func (s *setting) set(text string) error {
	if s.choices != nil && !slices.Contains(s.choices, text) {
		last := len(s.choices) - 1
		return fmt.Errorf("%q is none of %s and %s", text, strings.Join(s.choices[:last], ", "), s.choices[last])
	}
	switch p := s.field.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		*p = text == "on"
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil || n < s.least || n > s.most {
			return fmt.Errorf("%q is not a whole number from %d to %d", text, s.least, s.most)
		}
		*p = n
	case *Size:
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		*p = n
	case *Age:
		a, err := ParseAge(text)
		if err != nil {
			return err
		}
		*p = a
	case *[]string:
		*p = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
	default:
		panic("config: no way to set " + s.key)
	}
	return nil
}
