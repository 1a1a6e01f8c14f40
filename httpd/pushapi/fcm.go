package pushapi

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
)

// serviceAccount is the file that Google gives who publishes an app.
type serviceAccount struct {
	Project  string `json:"project_id"`
	KeyID    string `json:"private_key_id"`
	Key      string `json:"private_key"`
	Email    string `json:"client_email"`
	TokenURL string `json:"token_uri"`
}

const (
	googlePush  = "https://fcm.googleapis.com"
	googleScope = "https://www.googleapis.com/auth/firebase.messaging"
	googleGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	maxGoogle   = 4000 // of 4096: what goes round it is counted too
)

// googleToken proves who we are and gets an access token for it.
// Spec: RFC 7523, section 4; Reference: OAuth 2.0 for server to server applications.
func (v *vendor) googleToken(ctx context.Context) (string, time.Time, error) {
	s, now := &v.app.service, v.g.o.Now()
	claims := object{'{'}
	claims.text("iss", s.Email)
	claims.text("scope", googleScope)
	claims.text("aud", s.TokenURL)
	claims.raw("iat", strconv.AppendInt(nil, now.Unix(), 10))
	claims.raw("exp", strconv.AppendInt(nil, now.Add(time.Hour).Unix(), 10))
	proof, err := rs256(v.app.key.(*rsa.PrivateKey), s.KeyID, claims.end())
	if err != nil {
		return "", now, err
	}
	form := url.Values{"grant_type": {googleGrant}, "assertion": {proof}}.Encode()
	a, err := v.g.o.Ask(ctx, &Request{
		Method: "POST", URL: s.TokenURL, Body: []byte(form), Header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
	})
	if err != nil {
		return "", now, err
	}
	var got struct {
		Token string  `json:"access_token"`
		Life  float64 `json:"expires_in"`
	}
	if a.Status != 200 || json.Unmarshal(a.Body, &got) != nil || got.Token == "" {
		return "", now, &laterError{"Google gives no token for the service account: status " + strconv.Itoa(a.Status), 0}
	}
	life := time.Duration(min(max(got.Life, 120), 3600)) * time.Second
	return got.Token, now.Add(life - time.Minute), nil
}

// toGoogle tells a device by Firebase Cloud Messaging, HTTP v1. It is told data
// only: the app shows what it makes of that.
// Reference: projects.messages.send.
func (v *vendor) toGoogle(ctx context.Context, n *notification, d *device, token string) error {
	message := object{'{'}
	message.text("token", d.Key)
	message.raw("data", n.strings(d))
	android := object{'{'}
	android.text("ttl", strconv.Itoa(int(n.life()/time.Second))+"s")
	if n.urgent() {
		android.text("priority", "HIGH")
	} else {
		android.text("priority", "NORMAL")
	}
	message.raw("android", android.end())
	body := append(append([]byte(`{"message":`), message.end()...), '}')
	base := googlePush
	if v.app.URL != "" {
		base = strings.TrimSuffix(v.app.URL, "/")
	}
	a, err := v.g.o.Ask(ctx, &Request{
		Method: "POST", URL: base + "/v1/projects/" + url.PathEscape(v.app.service.Project) + "/messages:send", Body: body,
		Header: map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"},
	})
	if err != nil {
		return err
	}
	if a.Status == 401 {
		return staleError{}
	}
	switch code := googleCode(a.Body); {
	case code == "UNREGISTERED", code == "SENDER_ID_MISMATCH":
		return errRejected
	case code == "INVALID_ARGUMENT" && badToken(a.Body):
		return errRejected
	case a.Status == 404: // of the project: it is for the owner to see
		return &laterError{"Google does not know the project " + v.app.service.Project, 0}
	}
	return judge(a, v.g.o.Now())
}

// googleError is what an error of Google's says.
type googleError struct {
	Error struct {
		Details []struct {
			Code   string `json:"errorCode"`
			Fields []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
		} `json:"details"`
	} `json:"error"`
}

func googleCode(body []byte) string {
	var e googleError
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	for _, d := range e.Error.Details {
		if d.Code != "" {
			return d.Code
		}
	}
	return ""
}

// badToken says whether it is the device's token that was wrong, and not ours.
func badToken(body []byte) bool {
	var e googleError
	if json.Unmarshal(body, &e) != nil {
		return false
	}
	for _, d := range e.Error.Details {
		for _, f := range d.Fields {
			if f.Field == "message.token" {
				return true
			}
		}
	}
	return false
}

// strings is a notification as an object of nothing but strings, which is all
// that the service carries; what is an object comes as its JSON.
func (n *notification) strings(d *device) []byte {
	for cut := range 3 {
		o := object{'{'}
		_ = cjson.Object(n.flat(d, cut), func(key, val []byte) bool { // it was made here
			name := string(key)
			if googleReserves(name) {
				return true
			}
			text, ok := cjson.String(val)
			if !ok {
				text = string(val)
			}
			o.key(name)
			o = cjson.AppendString(o, text)
			return true
		})
		if out := o.end(); len(out) <= maxGoogle || cut == 2 {
			return out
		}
	}
	return nil
}

// googleReserves says which names of data the service keeps for itself.
func googleReserves(key string) bool {
	return key == "from" || key == "message_type" || strings.HasPrefix(key, "google.") || strings.HasPrefix(key, "gcm.")
}
