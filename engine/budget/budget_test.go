package budget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		limit, ram, want int64
	}{
		{0, 0, 40 * MiB},
		{0, 128 * MiB, 40 * MiB},
		{0, 256 * MiB, 64 * MiB},
		{0, 8 << 30, 128 * MiB},
		{40 * MiB, 8 << 30, 40 * MiB},
		{2 << 30, 8 << 30, 2 << 30},
	} {
		s, err := Plan(tt.limit, tt.ram)
		if err != nil || s.Limit != tt.want {
			t.Errorf("Plan(%d, %d) = %d, %v, want %d", tt.limit, tt.ram, s.Limit, err, tt.want)
		}
		if parts := s.BlockCache + 3*s.MemTable + s.Records + s.Bodies; parts > s.Go*4/5 {
			t.Errorf("limit %s: the shares take %s of %s", Text(s.Limit), Text(parts), Text(s.Go))
		}
	}
	if _, err := Plan(39*MiB, 8<<30); err == nil || !strings.Contains(err.Error(), "at least 40MiB") {
		t.Errorf("39 MiB: %v", err)
	}
}

func TestText(t *testing.T) {
	for n, want := range map[int64]string{96 * MiB: "96MiB", 2 << 30: "2GiB", 1536 * KiB: "1536KiB", MiB + 1: "1.0MiB", 12: "12B"} {
		if got := Text(n); got != want {
			t.Errorf("Text(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestRAM(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing to read", nil, 0},
		{"a board", map[string]string{"proc/meminfo": "MemTotal:  948280 kB\nMemFree: 1 kB\n"}, 948280 * KiB},
		{"version 2, limit further up", map[string]string{
			"proc/meminfo":                                         "MemTotal: 4000000 kB\n",
			"proc/self/cgroup":                                     "0::/system.slice/hearth.service\n",
			"sys/fs/cgroup/memory.max":                             "max\n",
			"sys/fs/cgroup/system.slice/memory.max":                "268435456\n",
			"sys/fs/cgroup/system.slice/hearth.service/memory.max": "max\n",
		}, 256 * MiB},
		{"version 1", map[string]string{
			"proc/meminfo":     "MemTotal: 4000000 kB\n",
			"proc/self/cgroup": "5:cpu:/x\n3:memory:/box\n",
			"sys/fs/cgroup/memory/box/memory.limit_in_bytes": "134217728\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n",
		}, 128 * MiB},
	} {
		root := t.TempDir()
		for name, text := range tt.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := ram(root); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	t.Logf("this machine: %s", Text(RAM()))
}
