package pack

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// archive writes the tar.gz: the program, the settings with every default, the unit to adapt, and the extra files.
func archive(w io.Writer, o Options, k Kind, scratch string) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	z.ModTime = o.Time
	t := tar.NewWriter(z)
	dir := "hearth-" + o.Version + "/"
	if err := put(t, dir+"hearth", filepath.Join(o.Programs, "hearth-linux-"+k.Program), 0o755, o); err != nil {
		return err
	}
	for _, name := range []string{"hearth.service", "hearth.toml"} {
		if err := put(t, dir+name, filepath.Join(scratch, "files", name), 0o644, o); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Extra)) {
		if err := put(t, dir+name, o.Extra[name], 0o644, o); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// put copies one file into the archive.
func put(t *tar.Writer, name, from string, mode int64, o Options) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: mode, Size: int64(len(b)), ModTime: o.Time, Typeflag: tar.TypeReg}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = t.Write(b)
	return err
}
