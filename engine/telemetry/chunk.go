package telemetry

import (
	"encoding/binary"

	"hearth/engine/fault"
)

// Sample is one reading of a topic.
type Sample struct {
	At      int64 // milliseconds since 1970
	Payload []byte
}

const (
	maxSamples = 4096 // of one chunk
	maxShapes  = 256  // of one chunk; the samples behind make another
)

// chunk is the samples of one topic for a while, in columns: times, shapes, and
// for each shape its numbers.
type chunk struct {
	times   []int64
	shapes  [][]byte
	shapeOf []int64    // by sample
	place   []int      // by sample: which of its shape's it is
	cols    [][]column // by shape and hole
}

// appendChunk encodes samples, of which there is one at least, and gives how many
// of them it took.
func appendChunk(dst []byte, list []Sample) (_ []byte, n int) {
	list = list[:min(len(list), maxSamples)]
	var c chunk
	known := map[string]int64{}
	var texts [][][][]byte // by shape, hole, sample
	var nums [][]byte
	var buf []byte
	for i := range list {
		buf, nums = cut(buf[:0], list[i].Payload, nums[:0])
		s, ok := known[string(buf)]
		if !ok {
			if len(known) >= maxShapes {
				list = list[:i]
				break
			}
			s = int64(len(known))
			known[string(buf)] = s
			c.shapes = append(c.shapes, append([]byte(nil), buf...))
			texts = append(texts, make([][][]byte, len(nums)))
		}
		c.shapeOf = append(c.shapeOf, s)
		for h, t := range nums {
			texts[s][h] = append(texts[s][h], t)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	dst = appendTimes(dst, list)
	dst = binary.AppendUvarint(dst, uint64(len(c.shapes)))
	for _, s := range c.shapes {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	if len(c.shapes) > 1 {
		dst = appendInts(dst, c.shapeOf)
	}
	for s := range texts {
		for h := range texts[s] {
			col := columnOf(texts[s][h])
			dst = col.encode(dst)
		}
	}
	return dst, len(list)
}

// appendTimes encodes the times as what each is off an even beat: things send at
// one, and what is left is the jitter of the network.
func appendTimes(dst []byte, list []Sample) []byte {
	first, last := list[0].At, list[len(list)-1].At
	var beat int64
	if len(list) > 1 {
		beat = (last - first) / int64(len(list)-1)
	}
	off := make([]int64, len(list))
	for i := range list {
		off[i] = list[i].At - first - int64(i)*beat
	}
	dst = binary.AppendUvarint(dst, zigzag(first))
	dst = binary.AppendUvarint(dst, zigzag(beat))
	return appendInts(dst, off)
}

// parseChunk decodes what appendChunk wrote. Parts of the chunk are parts of src.
func parseChunk(src []byte) (*chunk, error) {
	r := reader{src: src}
	c := &chunk{}
	n := r.uint()
	if n == 0 || n > maxSamples {
		return nil, corrupt()
	}
	first, beat := r.int(), r.int()
	c.times = r.ints(int(n))
	for i := range c.times {
		c.times[i] += first + int64(i)*beat
	}
	shapes := r.uint()
	if shapes == 0 || shapes > maxShapes {
		return nil, corrupt()
	}
	for range shapes {
		c.shapes = append(c.shapes, r.bytes(r.uint()))
	}
	c.shapeOf = make([]int64, n)
	if shapes > 1 {
		c.shapeOf = r.ints(int(n))
	}
	count := make([]int, shapes)
	c.place = make([]int, n)
	for i, s := range c.shapeOf {
		if s < 0 || s >= int64(shapes) || r.bad {
			return nil, corrupt()
		}
		c.place[i] = count[s]
		count[s]++
	}
	for s, shape := range c.shapes {
		cols := make([]column, holes(shape))
		for h := range cols {
			cols[h] = r.column(count[s])
		}
		c.cols = append(c.cols, cols)
	}
	if r.bad {
		return nil, corrupt()
	}
	return c, nil
}

func corrupt() error { return fault.E(fault.Corrupt, "telemetry", "a chunk that cannot be read") }

func holes(shape []byte) (n int) {
	if len(shape) == 0 || shape[0] != 0 {
		return 0
	}
	for _, b := range shape[1:] {
		if b == hole {
			n++
		}
	}
	return n
}

// appendPayload writes the payload of the i-th sample as it came.
func (c *chunk) appendPayload(dst []byte, i int) []byte {
	s := c.shapeOf[i]
	shape := c.shapes[s]
	if len(shape) == 0 {
		return dst
	}
	if shape[0] != 0 {
		return append(dst, shape[1:]...)
	}
	h := 0
	for _, b := range shape[1:] {
		if b != hole {
			dst = append(dst, b)
			continue
		}
		dst = c.cols[s][h].append(dst, c.place[i])
		h++
	}
	return dst
}
