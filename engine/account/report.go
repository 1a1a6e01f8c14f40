package account

import (
	"encoding/binary"
	"time"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Reports are what users tell the hub's owner about others.
// Spec: client-server, reporting content.

// Bounds of reports.
const (
	maxReports = 10_000
	maxReason  = 4 << 10
)

// ReportKind says what a report is about.
type ReportKind uint8

// The kinds. They are on disk.
const (
	EventReport ReportKind = 1
	RoomReport  ReportKind = 2
	UserReport  ReportKind = 3
)

// Report is one complaint.
type Report struct {
	Num    uint64
	Kind   ReportKind
	At     time.Time
	By     uint32
	Room   mxid.RoomID  // of EventReport and RoomReport
	Event  mxid.EventID // of EventReport
	User   mxid.UserID  // whom it is about; empty for RoomReport
	Reason string
	Score  int64 // -100 (worst) to 0, of EventReport by old clients
}

func reportKey(num uint64) []byte { return store.U64(store.Reported.Prefix(), num) }

func (r *Report) append(dst []byte) []byte {
	for _, v := range [...]uint64{uint64(r.Kind), uint64(r.At.UnixMilli()), uint64(r.By), uint64(-r.Score)} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, s := range [...]string{string(r.Room), string(r.Event), string(r.User), r.Reason} {
		dst = fields.AppendText(dst, s)
	}
	return dst
}

func parseReport(num uint64, row []byte) (Report, error) {
	r := fields.Open(row)
	p := Report{Num: num, Kind: ReportKind(r.Uint()), At: time.UnixMilli(int64(r.Uint())), By: uint32(r.Uint()), Score: -int64(r.Uint())}
	p.Room, p.Event, p.User, p.Reason = mxid.RoomID(r.Text()), mxid.EventID(r.Text()), mxid.UserID(r.Text()), r.Text()
	return p, rowErr(&r, "a report")
}

// AddReport keeps a report. When there are too many the oldest goes.
func (a *Accounts) AddReport(p Report) error {
	const op = "account.AddReport"
	if err := checkText(op, "the reason", p.Reason, maxReason); err != nil {
		return err
	}
	if p.Score < -100 || p.Score > 0 {
		return fault.E(fault.Invalid, op, "a score is between -100 and 0")
	}
	p.At = a.now()
	a.reports.Lock()
	defer a.reports.Unlock()
	last, err := a.st.Last(store.Reported.Prefix(), store.After(store.Reported.Prefix()))
	if err != nil {
		return err
	}
	num := uint64(1)
	if len(last) == 9 {
		num = binary.BigEndian.Uint64(last[1:]) + 1
	}
	b := a.st.NewBatch()
	if num > maxReports {
		b.DeleteRange(reportKey(0), reportKey(num-maxReports+1))
	}
	b.Set(reportKey(num), p.append(fields.New()))
	return a.st.Commit(b)
}

// Reports calls f for the reports of a kind, the newest first, until f returns
// false.
func (a *Accounts) Reports(kind ReportKind, f func(p *Report) (more bool)) error {
	return a.st.ScanBack(reportKey(0), store.After(store.Reported.Prefix()), func(key, val []byte) (bool, error) {
		p, err := parseReport(binary.BigEndian.Uint64(key[1:]), val)
		if err != nil || p.Kind != kind {
			return true, err
		}
		return f(&p), nil
	})
}

// Report reads one report.
func (a *Accounts) Report(num uint64) (Report, error) {
	val, ok, err := a.st.Get(nil, reportKey(num))
	if err == nil && !ok {
		err = fault.E(fault.NotFound, "account.Report", "there is no such report")
	}
	if err != nil {
		return Report{}, err
	}
	return parseReport(num, val)
}

// DropReport deletes a report.
func (a *Accounts) DropReport(num uint64) error {
	if _, err := a.Report(num); err != nil {
		return err
	}
	b := a.st.NewBatch()
	b.Delete(reportKey(num))
	return a.st.Commit(b)
}
