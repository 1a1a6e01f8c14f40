package telemetry

import (
	"bytes"
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// Format is a form of export.
type Format string

// The formats.
const (
	CSV        Format = "csv"        // topic, time, payload
	Line       Format = "line"       // InfluxDB line protocol, times in nanoseconds
	Prometheus Format = "prometheus" // text exposition: the last value of each field
)

// Export writes the samples of the topics that a filter matches, from a time
// until another in milliseconds. Prometheus tells the last sample only, whatever
// the times, since that is all its text has a place for.
//
// Errors: Invalid for an unknown format; those of w.
func (l *Log) Export(w io.Writer, f Format, filter string, from, until int64) error {
	switch f {
	case CSV:
		if _, err := io.WriteString(w, "topic,time,payload\n"); err != nil {
			return err
		}
	case Line, Prometheus:
	default:
		return fault.E(fault.Invalid, "telemetry.Export", "there is no format %q; csv, line and prometheus there are", string(f))
	}
	for _, name := range l.Topics(filter) {
		var err error
		if f == Prometheus {
			err = l.exposed(w, name, from, until)
		} else {
			err = l.lines(w, f, name, from, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lines writes one line for each sample of a topic.
func (l *Log) lines(w io.Writer, f Format, name string, from, until int64) error {
	var buf []byte
	var werr error
	put := func() bool {
		_, werr = w.Write(buf)
		buf = buf[:0]
		return werr == nil
	}
	err := l.Each(name, from, until, func(at int64, payload []byte) bool {
		if f == CSV {
			buf = appendCSV(buf, name)
			buf = time.UnixMilli(at).UTC().AppendFormat(append(buf, ','), "2006-01-02T15:04:05.000Z07:00")
			buf = append(appendCSV(append(buf, ','), text(payload)), '\n')
		} else {
			buf = appendLine(buf, name, at, payload)
		}
		return len(buf) < 32<<10 || put()
	})
	if err != nil {
		return err
	}
	if werr == nil {
		put()
	}
	return werr
}

// text is a payload as text; one that is none in base64.
func text(payload []byte) string {
	if utf8.Valid(payload) {
		return string(payload)
	}
	return "base64:" + base64.StdEncoding.EncodeToString(payload)
}

// appendCSV writes a field of a CSV file (RFC 4180). A field that a spreadsheet
// would take for a formula gets an apostrophe.
func appendCSV(dst []byte, s string) []byte {
	if s != "" && strings.ContainsRune("=@\t\r", rune(s[0])) || len(s) > 1 && (s[0] == '+' || s[0] == '-') && !isDigit(s[1]) {
		s = "'" + s
	}
	if !strings.ContainsAny(s, ",\"\r\n") {
		return append(dst, s...)
	}
	return append(append(append(dst, '"'), strings.ReplaceAll(s, `"`, `""`)...), '"')
}

// appendLine writes a sample in line protocol: the measurement is "mqtt", the
// topic a tag, each number a field; a payload without any is one text field.
func appendLine(dst []byte, name string, at int64, payload []byte) []byte {
	dst = append(append(dst, "mqtt,topic="...), lineEscape(name)...)
	dst = append(dst, ' ')
	n := 0
	fields(payload, func(field, number string) {
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		if field == "" {
			field = "value"
		}
		dst = append(append(append(dst, lineEscape(field)...), '='), number...)
	})
	if n == 0 {
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(text(payload))
		dst = append(append(append(dst, `text="`...), quoted...), '"')
	}
	dst = strconv.AppendInt(append(dst, ' '), at, 10)
	return append(dst, "000000\n"...)
}

func lineEscape(s string) string {
	return strings.NewReplacer(`,`, `\,`, `=`, `\=`, ` `, `\ `, "\n", `\n`, "\r", `\r`).Replace(s)
}

// fields calls f for the numbers of a payload that have a place in its JSON.
func fields(payload []byte, f func(field, number string)) {
	shape, nums := cut(nil, payload, nil)
	number := func(dst []byte, h int) []byte {
		if h < len(nums) {
			dst = append(dst, nums[h]...)
		}
		return dst
	}
	for h, p := range paths(shape) {
		if p.ok && h < len(nums) {
			f(string(p.appendName(nil, number)), string(nums[h]))
		}
	}
}

// exposed writes the last number of each field of a topic as Prometheus reads it.
func (l *Log) exposed(w io.Writer, name string, from, until int64) error {
	var at int64
	var last []byte
	if err := l.Each(name, from, until, func(t int64, payload []byte) bool {
		at, last = t, append(last[:0], payload...)
		return true
	}); err != nil || at == 0 {
		return err
	}
	var b bytes.Buffer
	fields(last, func(field, number string) {
		if field == "" {
			field = "value"
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsInf(v, 0) {
			return
		}
		b.WriteString(`hearth_telemetry{topic=`)
		b.Write(promText(name))
		b.WriteString(`,field=`)
		b.Write(promText(field))
		b.WriteString("} " + strconv.FormatFloat(v, 'g', -1, 64) + " " + strconv.FormatInt(at, 10) + "\n")
	})
	_, err := w.Write(b.Bytes())
	return err
}

// promText is a label's value: of JSON's escapes those that the format has.
func promText(s string) []byte {
	s = strings.NewReplacer("\x7f", "").Replace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' {
			return -1
		}
		return r
	}, s))
	return cjson.AppendString(nil, s)
}
