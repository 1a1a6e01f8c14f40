package config

import (
	"os"
	"path/filepath"

	"hearth/httpd/pushapi"
)

// PushAppList reads the apps that push services wake; there are none where no
// file is named. Files that it names without a full path are beside it.
func (c *Config) PushAppList() ([]pushapi.App, error) {
	text, err := readSecret(c.PushApps)
	if err != nil || text == nil {
		return nil, err
	}
	return pushapi.ParseApps(text, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(c.PushApps), name)
		}
		b, err := os.ReadFile(name)
		return b, plainly(err)
	})
}
