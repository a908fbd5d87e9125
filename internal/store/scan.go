package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
)

// The layout of a bbolt file, version 2, in the machine's byte order (bbolt's internal/common). bbolt itself can't be
// asked whether a file is whole: it reads by memory mapping, where a page beyond the end of the file is a signal that
// ends the process.
const (
	pageHeader = 16 // id 8, flags 2, count 2, overflow 4

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	elementSize   = 16
	bucketElement = 1  // flag of a leaf element
	bucketHeader  = 16 // root page 8, sequence 8

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56 // bytes of a meta that its checksum covers

	noFreelist = ^uint64(0)

	minPage, maxPage = 1 << 10, 1 << 16
)

var order = binary.NativeEndian

// meta is one of the two roots of a file.
type meta struct {
	pageSize              int64
	root, freelist, pages uint64
	txid                  uint64
}

// metas returns the roots that are whole, the newest first.
func metas(r io.ReaderAt) []meta {
	var out []meta
	read := func(at int64) bool {
		var buf [pageHeader + metaSummed + 8]byte
		if _, err := r.ReadAt(buf[:], at); err != nil {
			return false
		}
		m, ok := parseMeta(buf[:])
		if ok && (at == 0 || at == m.pageSize) {
			out = append(out, m)
		}
		return ok
	}
	read(0)
	for size := int64(minPage); size <= maxPage; size *= 2 {
		if read(size) {
			break
		}
	}
	slices.SortFunc(out, func(a, b meta) int { return cmp.Compare(b.txid, a.txid) })
	return out
}

func parseMeta(page []byte) (meta, bool) {
	b := page[pageHeader:]
	h := fnv.New64a()
	h.Write(b[:metaSummed])
	m := meta{
		pageSize: int64(order.Uint32(b[8:])), root: order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}
	whole := order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion &&
		order.Uint64(b[metaSummed:]) == h.Sum64() && m.pageSize >= minPage && m.pageSize <= maxPage
	return m, whole
}

// scan walks everything that a root reaches. visit gets each key and value with its bucket's name, in order, and says
// what is wrong with them. What is damaged is passed over; the first damage is returned.
func scan(r io.ReaderAt, size int64, m meta, visit func(bucket, key, value []byte) error) error {
	w := &walk{r: r, size: size, meta: m, visit: visit, seen: map[uint64]bool{0: true, 1: true}}
	w.roots()
	w.freelist()
	w.tree(m.root, nil, &bounds{})
	return w.damage
}

type walk struct {
	r      io.ReaderAt
	size   int64
	meta   meta
	visit  func(bucket, key, value []byte) error
	seen   map[uint64]bool // a page has one place
	damage error           // the first
}

// bounds are what the keys of a tree must obey, in the order of the walk.
type bounds struct {
	last  []byte // key; nil: none yet
	least []byte // of the branch elements above
}

func (w *walk) damaged(format string, args ...any) {
	if w.damage == nil {
		w.damage = fmt.Errorf(format, args...)
	}
}

// page reads a page with what overflows from it.
func (w *walk) page(id uint64) ([]byte, error) {
	head := make([]byte, pageHeader)
	at := int64(id) * w.meta.pageSize
	if id >= w.meta.pages || at > w.size-w.meta.pageSize {
		return nil, fmt.Errorf("page %d is beyond the end (%d bytes)", id, w.size)
	}
	if _, err := w.r.ReadAt(head, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	more := uint64(order.Uint32(head[12:]))
	length := int64(more+1) * w.meta.pageSize
	switch {
	case order.Uint64(head) != id:
		return nil, fmt.Errorf("page %d bears the number %d", id, order.Uint64(head))
	case id+more >= w.meta.pages || at+length > w.size:
		return nil, fmt.Errorf("page %d and %d more go beyond the end (%d bytes)", id, more, w.size)
	}
	for p := id; p <= id+more; p++ {
		if w.seen[p] {
			return nil, fmt.Errorf("page %d is in two places", p)
		}
		w.seen[p] = true
	}
	body := make([]byte, length)
	if _, err := w.r.ReadAt(body, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return body, nil
}

// tree walks the pages below one.
func (w *walk) tree(id uint64, bucket []byte, b *bounds) {
	page, err := w.page(id)
	if err != nil {
		w.damaged("%w", err)
		return
	}
	w.elements(page, bucket, b)
}

// elements walks a page's elements, of a page of its own or one inside a value.
func (w *walk) elements(page []byte, bucket []byte, b *bounds) {
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	id := order.Uint64(page)
	if flags != branchPage && flags != leafPage || pageHeader+count*elementSize > len(page) {
		w.damaged("page %d has flags %#x and %d elements", id, flags, count)
		return
	}
	if flags == branchPage && count == 0 {
		w.damaged("page %d is a branch with nothing below it", id)
		return
	}
	for i := range count {
		at := pageHeader + i*elementSize
		var err error
		if flags == branchPage {
			err = w.branch(page[at:], bucket, b)
		} else {
			err = w.leaf(page[at:], bucket, b)
		}
		if err != nil {
			w.damaged("page %d, element %d of %d: %w", id, i, count, err)
		}
	}
}

var errOutside = errors.New("it reaches beyond its page")

// part returns length bytes from an offset on.
func part(b []byte, offset, length uint32) ([]byte, error) {
	if uint64(offset)+uint64(length) > uint64(len(b)) {
		return nil, errOutside
	}
	return b[offset : offset+length], nil
}

// branch walks what a branch element leads to. An element begins with offset 4, length of the key 4, page 8.
func (w *walk) branch(e []byte, bucket []byte, b *bounds) error {
	key, err := part(e, order.Uint32(e), order.Uint32(e[4:]))
	if err != nil {
		return err
	}
	if b.last != nil && bytes.Compare(key, b.last) <= 0 || bytes.Compare(key, b.least) < 0 {
		return errors.New("its key is out of order")
	}
	b.least = key
	w.tree(order.Uint64(e[8:]), bucket, b)
	return nil
}

// leaf visits an element, or walks the bucket that it is. It begins with flags 4, offset 4, lengths of key and
// value 4 each.
func (w *walk) leaf(e []byte, bucket []byte, b *bounds) error {
	flags, offset, keyLength, valueLength := order.Uint32(e), order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
	key, err := part(e, offset, keyLength)
	if err != nil {
		return err
	}
	rest, err := part(e, offset, uint32(len(e))-offset)
	if err != nil {
		return err
	}
	value, err := part(rest, keyLength, valueLength)
	if err != nil {
		return err
	}
	if len(key) == 0 || b.last != nil && bytes.Compare(key, b.last) <= 0 || bytes.Compare(key, b.least) < 0 {
		return errors.New("its key is out of order")
	}
	b.last = key
	if (flags == bucketElement) != (bucket == nil) || flags > bucketElement {
		return fmt.Errorf("it has flags %#x", flags)
	}
	if flags == bucketElement {
		return w.bucket(key, value)
	}
	return w.visit(bucket, key, value)
}

// bucket walks a bucket: a tree of its own, or when it is small a page behind its header.
func (w *walk) bucket(name, value []byte) error {
	if len(value) < bucketHeader {
		return errOutside
	}
	if root := order.Uint64(value); root != 0 {
		w.tree(root, name, &bounds{})
		return nil
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != leafPage {
		return errors.New("its bucket is no page")
	}
	w.elements(inline, name, &bounds{})
	return nil
}

// roots checks what a root's checksum leaves out.
func (w *walk) roots() {
	for id := range int64(2) {
		var head [pageHeader]byte
		_, err := w.r.ReadAt(head[:], id*w.meta.pageSize)
		if err != nil || order.Uint64(head[:]) != uint64(id) || order.Uint16(head[8:]) != metaPage {
			w.damaged("root %d isn't whole", id)
		}
	}
}

// freelist checks the list of free pages, of a file that has one: this store's has none after its first commit.
func (w *walk) freelist() {
	if w.meta.freelist == noFreelist {
		return
	}
	page, err := w.page(w.meta.freelist)
	if err != nil {
		w.damaged("%w", err)
		return
	}
	if order.Uint16(page[8:]) != freelistPage || order.Uint16(page[10:]) != 0 {
		w.damaged("page %d isn't the empty list of free pages of a new file", w.meta.freelist)
	}
}
