package format

import "io"

// streamBuffer gathers small writes that follow each other into large ones.
type streamBuffer struct {
	out  io.WriterAt
	open bool
	end  int64 // offset behind the last byte
	buf  []byte
}

const streamBufferSize = 1 << 20

func (s *streamBuffer) begin(off int64) { s.open, s.end = true, off }

// fits says whether n bytes more end within limit.
func (s *streamBuffer) fits(n, limit int64) bool { return s.open && s.end+n <= limit }

func (s *streamBuffer) write(p []byte) error {
	s.buf = append(s.buf, p...)
	s.end += int64(len(p))
	if len(s.buf) < streamBufferSize {
		return nil
	}
	return s.flush()
}

func (s *streamBuffer) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.out.WriteAt(s.buf, s.end-int64(len(s.buf)))
	s.buf = s.buf[:0]
	return err
}

// close writes what is left; the next write needs begin.
func (s *streamBuffer) close() error {
	s.open = false
	return s.flush()
}
