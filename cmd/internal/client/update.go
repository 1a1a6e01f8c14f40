package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// updatePath is where a box takes updates, from its admins.
const updatePath = "/_hearth/admin/v1/update"

// maxStatus bounds what is read of a box's answer.
const maxStatus = 64 << 10

// Update asks about updates, and gives the answer as it is: GET tells how a box stands, PUT brings it an archive, POST
// has it fetch one. size is that of the body, -1 if it is not known. It is not tried again: an archive is long.
func (c *Client) Update(ctx context.Context, method string, body io.Reader, size int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+updatePath, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, answer)
	}
	return answer, nil
}

// Download begins to fetch what lies at a URL of any server.
func Download(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Body, nil
}
