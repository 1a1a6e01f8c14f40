package pushapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// App is an app that Apple's or Google's service wakes, as the owner lists it.
// Only who publishes an app has the credentials for it.
type App struct {
	// ID is the app_id of its pushers; a * at the end stands for any rest.
	ID   string `json:"app_id"`
	Kind string `json:"kind"` // apns or fcm

	// For apns: the file of the key (.p8), its id, the team's, and the app's bundle id.
	KeyFile string `json:"key_file"`
	KeyID   string `json:"key_id"`
	Team    string `json:"team_id"`
	Topic   string `json:"topic"`
	Sandbox bool   `json:"sandbox"` // builds that are not from the store

	// For fcm: the file of a service account.
	Account string `json:"service_account_file"`

	// URL takes the place of the company's own address, for a proxy before it.
	URL string `json:"url"`

	key     any // what was read of the files
	service serviceAccount
}

// ParseApps reads the owner's list, {"apps": [...]}, and the files that it names
// by read.
func ParseApps(text []byte, read func(name string) ([]byte, error)) ([]App, error) {
	var list struct {
		Apps []App `json:"apps"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("the list of apps: %w", err)
	}
	for i := range list.Apps {
		a := &list.Apps[i]
		if err := a.load(read); err != nil {
			return nil, fmt.Errorf("the app %q: %w", a.ID, err)
		}
	}
	return list.Apps, nil
}

func (a *App) load(read func(name string) ([]byte, error)) error {
	if strings.TrimSuffix(a.ID, "*") == "" || strings.Contains(strings.TrimSuffix(a.ID, "*"), "*") {
		return fmt.Errorf("app_id is a name, which may end with *")
	}
	if a.URL != "" && !strings.HasPrefix(a.URL, "https://") {
		return fmt.Errorf("url must begin with https://")
	}
	switch a.Kind {
	case "apns":
		if a.KeyFile == "" || a.KeyID == "" || a.Team == "" || a.Topic == "" {
			return fmt.Errorf("apns needs key_file, key_id, team_id and topic")
		}
		text, err := read(a.KeyFile)
		if err != nil {
			return err
		}
		key, err := privateKey(text)
		if err != nil {
			return fmt.Errorf("%s: %w", a.KeyFile, err)
		}
		if k, ok := key.(*ecdsa.PrivateKey); !ok || k.Curve.Params().BitSize != 256 {
			return fmt.Errorf("%s: not a key such as Apple gives out", a.KeyFile)
		}
		a.key = key
		return nil
	case "fcm":
		if a.Account == "" {
			return fmt.Errorf("fcm needs service_account_file")
		}
		text, err := read(a.Account)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &a.service); err != nil {
			return fmt.Errorf("%s: %w", a.Account, err)
		}
		s := &a.service
		if s.Project == "" || s.Email == "" || !strings.HasPrefix(s.TokenURL, "https://") {
			return fmt.Errorf("%s: not a service account: project_id, client_email and token_uri are needed", a.Account)
		}
		key, err := privateKey([]byte(s.Key))
		if err != nil {
			return fmt.Errorf("%s: private_key: %w", a.Account, err)
		}
		if _, ok := key.(*rsa.PrivateKey); !ok {
			return fmt.Errorf("%s: private_key is no RSA key", a.Account)
		}
		a.key = key
		return nil
	}
	return fmt.Errorf("kind is apns or fcm, not %q", a.Kind)
}

func (a *App) matches(id string) bool {
	if prefix, ok := strings.CutSuffix(a.ID, "*"); ok {
		return strings.HasPrefix(id, prefix)
	}
	return id == a.ID
}

// vendor is an app with the token by which its service knows us.
type vendor struct {
	g    *Gateway
	app  *App
	send func(ctx context.Context, n *notification, d *device, token string) error
	mint func(ctx context.Context) (token string, until time.Time, err error)

	least time.Duration // between two tokens; 0: they may be had at any time

	mu    sync.Mutex // held while a token is made, so that one is
	token string
	made  time.Time
	until time.Time
}

func newVendor(a *App, g *Gateway) (*vendor, error) {
	v := &vendor{g: g, app: a}
	switch a.Kind {
	case "apns":
		v.send, v.mint, v.least = v.toApple, v.appleToken, appleLeast
	case "fcm":
		v.send, v.mint = v.toGoogle, v.googleToken
	default:
		return nil, fmt.Errorf("pushapi: the app %q is of no kind", a.ID)
	}
	return v, nil
}

// staleError says that the service does not take the token any more.
type staleError struct{}

func (staleError) Error() string { return "the push service refuses the credentials of the app" }

// deliver tells a device, with a new token where the old one is not taken.
func (v *vendor) deliver(ctx context.Context, n *notification, d *device) error {
	if n.idle(d) {
		return nil
	}
	for second := range 2 {
		token, err := v.current(ctx)
		if err != nil {
			return err
		}
		if err = v.send(ctx, n, d, token); err != (staleError{}) || second == 1 {
			return err
		}
		if wait := v.drop(token); wait > 0 {
			return &laterError{"the push service refuses a fresh token of " + v.app.ID + "; is the clock right?", wait}
		}
	}
	return nil
}

func (v *vendor) current(ctx context.Context) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != "" && v.g.o.Now().Before(v.until) {
		return v.token, nil
	}
	token, until, err := v.mint(ctx)
	if err != nil {
		return "", err
	}
	v.token, v.made, v.until = token, v.g.o.Now(), until
	return token, nil
}

// drop forgets a token that is not taken; wait is how long another may not be
// had yet.
func (v *vendor) drop(token string) (wait time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != token {
		return 0 // there is another already
	}
	if wait = v.least - v.g.o.Now().Sub(v.made); wait <= 0 {
		v.token = ""
	}
	return wait
}
