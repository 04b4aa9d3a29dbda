package phrase

import (
	"container/list"
	"sync"
	"time"
)

// entry is a decoded file and the version it was made of.
type entry struct {
	clip *Clip
	tag  Tag
	// checked is when its source last said that this is the file.
	checked time.Time
}

// cache keeps the most recently used entries within a number of bytes.
type cache struct {
	most int64

	mu    sync.Mutex
	byKey map[string]*list.Element
	order *list.List // most recently used first
	bytes int64
}

type item struct {
	key string
	entry
}

func newCache(most int64) *cache {
	return &cache{most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// get returns a copy of the entry, or nil.
func (c *cache) get(key string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[key]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	e := el.Value.(*item).entry
	return &e
}

func (c *cache) put(key string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	c.byKey[key] = c.order.PushFront(&item{key: key, entry: e})
	c.bytes += weight(key, e)
	for c.bytes > c.most && c.order.Len() > 1 {
		c.remove(c.order.Back().Value.(*item).key)
	}
}

func (c *cache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *cache) remove(key string) {
	el := c.byKey[key]
	if el == nil {
		return
	}
	c.bytes -= weight(key, el.Value.(*item).entry)
	c.order.Remove(el)
	delete(c.byKey, key)
}

// weight counts what an entry costs besides its samples, so that a million tiny
// ones do not pass for nothing.
func weight(key string, e entry) int64 {
	const overhead = 512
	return int64(len(e.clip.Samples)+len(key)) + overhead
}
