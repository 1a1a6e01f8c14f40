package telemetry

import (
	"encoding/binary"
	"slices"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// names are the topics that have samples, with the small numbers that stand for
// them in keys. All are in memory; their number is bounded. A name is given back
// when nothing of the topic is kept any more.
type names struct {
	st   *store.Store
	mu   sync.Mutex
	last uint32
	num  map[string]uint32
	name map[uint32]string
}

func (n *names) load() error {
	return n.st.ScanPrefix(store.TopicName.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) != 5 {
			return false, corrupt()
		}
		num := binary.BigEndian.Uint32(key[1:])
		n.num[string(val)], n.name[num], n.last = num, string(val), num
		return true, nil
	})
}

// find gives the number of a topic; 0 where it has none.
func (n *names) find(topic string) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.num[topic]
}

// number gives the number of a topic, and gives it one if it has none. The row
// is on disk before any chunk that uses it: both go through the same log.
func (n *names) number(topic string) (uint32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if num := n.num[topic]; num != 0 {
		return num, nil
	}
	if len(topic) > maxTopic {
		return 0, fault.E(fault.TooLarge, "telemetry.Add", "a topic has at most %d bytes", maxTopic)
	}
	if len(n.num) >= maxTopics {
		return 0, fault.E(fault.Limit, "telemetry.Add", "the hub keeps the samples of at most %d topics", maxTopics)
	}
	num := n.last + 1
	b := n.st.NewBatch()
	b.Set(append(store.Topic.Prefix(), topic...), binary.AppendUvarint(nil, uint64(num)))
	b.Set(store.U32(store.TopicName.Prefix(), num), []byte(topic))
	if err := n.st.Apply(b); err != nil {
		return 0, err
	}
	n.last = num
	n.num[topic], n.name[num] = num, topic
	return num, nil
}

// all lists the topics in order.
func (n *names) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]string, 0, len(n.num))
	for topic := range n.num {
		list = append(list, topic)
	}
	slices.Sort(list)
	return list
}

// drop forgets a topic.
func (n *names) drop(topic string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	num := n.num[topic]
	b := n.st.NewBatch()
	b.Frees()
	b.Delete(append(store.Topic.Prefix(), topic...))
	b.Delete(store.U32(store.TopicName.Prefix(), num))
	if err := n.st.Apply(b); err != nil {
		return err
	}
	delete(n.num, topic)
	delete(n.name, num)
	return nil
}
