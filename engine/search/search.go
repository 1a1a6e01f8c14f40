// Package search is the full-text index of this hub's rooms: which events of a
// room hold a word in their body, name or topic.
//
// It is a reader of the log with a cursor of its own: nothing is done for it
// when an event is sent, and it catches up now and then and before each
// question. It keeps hashes of words, never words: whoever asks reads the events
// that it names and looks whether the words are there, so a collision of hashes
// costs a look and tells nothing. What was redacted is taken out of the index,
// for which it keeps the hashes of each event beside it.
//
// It refuses to know who may read what, and to rank: package engine does that
// with the events in hand. Encrypted events hold no words.
package search

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Bounds of the index.
const (
	maxWords   = 256 // of one event that are indexed
	maxWord    = 64  // bytes of a word; longer ones count by their beginning
	batchSize  = 200 // entries of the log that are indexed together
	maxTerms   = 16  // words of one question
	cursorName = "search"
)

// pause is how long the index may lie behind while nobody asks.
const pause = 10 * time.Second

// Index is the open index. All methods may be called at the same time.
type Index struct {
	st    *store.Store
	log   *stream.Log
	rooms *room.Rooms

	mu   sync.Mutex // held while the index is brought up to date
	done stream.Pos // up to which it is
}

// Open makes the index of a store available.
func Open(st *store.Store, log *stream.Log, rooms *room.Rooms) (*Index, error) {
	x := &Index{st: st, log: log, rooms: rooms}
	var err error
	x.done, err = log.Cursor(cursorName)
	return x, err
}

// Run keeps the index near the tip until stop is closed. fail is told what goes
// wrong; then it tries again later.
func (x *Index) Run(stop <-chan struct{}, fail func(error)) {
	if x.st.ReadOnly() {
		return
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if err := x.catchUp(x.log.Tip(), stop); err != nil && !fault.Is(err, fault.Full) {
			fail(err)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// catchUp indexes the log up to a position, or as far as it gets until stop.
func (x *Index) catchUp(upto stream.Pos, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if more, err := x.step(upto); err != nil || !more {
			return err
		}
	}
}

// step indexes some entries of the log in one batch.
func (x *Index) step(upto stream.Pos) (more bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done >= upto {
		return false, nil
	}
	b := x.st.NewBatch()
	at, n := x.done, 0
	var broken error
	fresh := map[room.EventNum][]uint32{}
	err = x.log.Read(x.done, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if e.Kind == stream.RoomEvent {
			if broken = x.take(b, room.EventNum(e.Event), fresh); broken != nil {
				return false
			}
		}
		at = pos
		n++
		return n < batchSize
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		b.Drop()
		return false, err
	}
	stream.SetCursor(b, cursorName, at)
	if err := x.st.Apply(b); err != nil {
		return false, err
	}
	x.done = at
	return at < upto, nil
}

// Past indexes events of which the log does not tell: those that came from before
// others. What is lost of it by a power cut is found again where the index is built
// anew.
func (x *Index) Past(events []mxid.EventID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.st.NewBatch()
	fresh := map[room.EventNum][]uint32{}
	for _, id := range events {
		e, err := x.rooms.Lookup(id)
		if err == nil && e.At.Pos != 0 && !e.Rejected() {
			err = x.take(b, e.Num, fresh)
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			b.Drop()
			return err
		}
	}
	return x.st.Apply(b)
}

// take indexes one event, or takes out of the index what it redacts. fresh holds
// what the same batch has indexed.
func (x *Index) take(b *store.Batch, num room.EventNum, fresh map[room.EventNum][]uint32) error {
	e, err := x.rooms.Event(num)
	if fault.Is(err, fault.NotFound) {
		return nil // aged since
	}
	if err != nil {
		return err
	}
	if e.Type == "m.room.redaction" && e.Redacts != "" {
		gone, err := x.rooms.Lookup(e.Redacts)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil || gone.In != e.In || !gone.Redacted() {
			return err
		}
		return x.drop(b, gone, fresh[gone.Num])
	}
	if e.Redacted() {
		return nil
	}
	hashes := hashesOf(e)
	if len(hashes) == 0 {
		return nil
	}
	row := make([]byte, 0, 4*len(hashes))
	for _, h := range hashes {
		row = binary.BigEndian.AppendUint32(row, h)
		b.Set(postingKey(e.In, h, num), nil)
	}
	b.Set(wordsKey(num), row)
	fresh[num] = hashes
	return nil
}

// DropRoom takes a room that is no more out of the index. What the index reads
// of it afterwards it does not find.
func (x *Index) DropRoom(in room.Num) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.st.NewBatch()
	b.Frees()
	prefix := store.U32(store.Word.Prefix(), uint32(in))
	b.DeleteRange(prefix, store.After(prefix))
	return x.st.Apply(b)
}

// Drop forgets which words events have, those of a room taken out by DropRoom.
func (x *Index) Drop(b *store.Batch, gone []room.EventNum) {
	for _, num := range gone {
		b.Delete(wordsKey(num))
	}
}

// Forget takes events out of the index that are on their way out of their room.
// What the index reads of them afterwards it does not find.
func (x *Index) Forget(b *store.Batch, gone []*room.Event) error {
	x.mu.Lock() // what it read before they went is in the index now
	defer x.mu.Unlock()
	for _, e := range gone {
		if err := x.drop(b, e, nil); err != nil {
			return err
		}
	}
	return nil
}

// drop takes an event out of the index.
func (x *Index) drop(b *store.Batch, e *room.Event, hashes []uint32) error {
	row, ok, err := x.st.Get(nil, wordsKey(e.Num))
	if err != nil {
		return err
	}
	for ; ok && len(row) >= 4; row = row[4:] {
		hashes = append(hashes, binary.BigEndian.Uint32(row))
	}
	for _, h := range hashes {
		b.Delete(postingKey(e.In, h, e.Num))
	}
	if ok {
		b.Delete(wordsKey(e.Num))
	}
	return nil
}

func postingKey(in room.Num, hash uint32, num room.EventNum) []byte {
	return store.U64(store.U32(store.U32(store.Word.Prefix(), uint32(in)), hash), uint64(num))
}

func wordsKey(num room.EventNum) []byte { return store.U64(store.EventWords.Prefix(), uint64(num)) }

// hashesOf gives the hashes of an event's words, each once.
func hashesOf(e *room.Event) []uint32 {
	var hashes []uint32
	for _, f := range Fields() {
		if e.Type != f.Type {
			continue
		}
		text, _ := cjson.LookupString(e.Content, f.Key)
		Words(text, func(word string) bool {
			if h := hashOf(word); !slices.Contains(hashes, h) {
				hashes = append(hashes, h)
			}
			return len(hashes) < maxWords
		})
	}
	return hashes
}

func hashOf(word string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word)) // it cannot fail
	return h.Sum32()
}

// Field is a text that is searched: a key of the content of a type.
type Field struct{ Type, Key string }

// Fields are the texts that are searched. Spec: client-server, server side search.
func Fields() [3]Field {
	return [...]Field{{"m.room.message", "body"}, {"m.room.name", "name"}, {"m.room.topic", "topic"}}
}

// Words calls f for the words of a text, in lower case, until f returns false. A
// word is a run of letters, marks and digits; a character of a script that is
// written without spaces is a word by itself.
func Words(text string, f func(word string) (more bool)) {
	var word strings.Builder
	flush := func() bool {
		if word.Len() == 0 {
			return true
		}
		w := word.String()
		word.Reset()
		return f(w)
	}
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai):
			if !flush() || !f(string(r)) {
				return
			}
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			if r = unicode.ToLower(r); word.Len()+utf8.RuneLen(r) <= maxWord {
				word.WriteRune(r)
			}
		default:
			if !flush() {
				return
			}
		}
	}
	flush()
}

// Terms gives the words of a question, each once.
func Terms(text string) []string {
	var terms []string
	Words(text, func(word string) bool {
		if !slices.Contains(terms, word) {
			terms = append(terms, word)
		}
		return len(terms) < maxTerms
	})
	return terms
}

// Refresh brings the index up to the tip as it is now. On a disk that takes
// nothing it stays as it is.
func (x *Index) Refresh() error {
	if x.st.ReadOnly() {
		return nil
	}
	err := x.catchUp(x.log.Tip(), nil)
	if fault.Is(err, fault.Full) {
		return nil
	}
	return err
}

// Find calls f for the events of a room that perhaps hold all terms, the newest
// first, until f returns false. At most looks rows are read; it gives how many
// were.
func (x *Index) Find(in room.Num, terms []string, looks int, f func(num room.EventNum) (more bool)) (read int, err error) {
	if len(terms) == 0 {
		return 0, nil
	}
	hashes := make([]uint32, len(terms))
	for i, t := range terms {
		hashes[i] = hashOf(t)
	}
	// The longest word is likely the rarest: its row is walked along.
	longest := 0
	for i, t := range terms {
		if len(t) > len(terms[longest]) {
			longest = i
		}
	}
	hashes[0], hashes[longest] = hashes[longest], hashes[0]
	prefix := store.U32(store.U32(store.Word.Prefix(), uint32(in)), hashes[0])
	err = x.st.ScanBack(prefix, store.After(prefix), func(key, _ []byte) (bool, error) {
		if len(key) != len(prefix)+8 {
			return false, fault.E(fault.Corrupt, "search.Find", "a key of %d bytes", len(key))
		}
		num := room.EventNum(binary.BigEndian.Uint64(key[len(prefix):]))
		read++
		for _, h := range hashes[1:] {
			if ok, err := x.st.Has(postingKey(in, h, num)); err != nil || !ok {
				return read < looks, err
			}
		}
		return f(num) && read < looks, nil
	})
	return read, err
}
