// Package fault gives errors a kind, which decides the exit code, and a hint,
// which says what to do next. It imports nothing of ours.
//
// The text of an error says what was being done, to what, and where; the hint
// is shown on a line of its own by the command line.
package fault

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Kind is the class of an error.
type Kind int

// The kinds, in the order of their exit codes.
const (
	Internal    Kind = 1   // a defect of ours
	Input       Kind = 2   // the user's spec, flags or files are wrong
	Environment Kind = 3   // the host lacks something
	Network     Kind = 4   // a server is unreachable or refuses
	Integrity   Kind = 5   // a digest or signature does not match
	Check       Kind = 6   // a check ran and failed
	Interrupted Kind = 130 // the user stopped us
)

// String returns the kind's name as it appears in JSON output.
func (k Kind) String() string {
	switch k {
	case Input:
		return "input"
	case Environment:
		return "environment"
	case Network:
		return "network"
	case Integrity:
		return "integrity"
	case Check:
		return "check"
	case Interrupted:
		return "interrupted"
	default:
		return "internal"
	}
}

// Error is an error with a kind and, if there is one, a hint.
type Error struct {
	Kind Kind
	Hint string // what to do next; may be empty
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that e classifies.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of a kind. The format may use %w.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Hint attaches what to do next to err and keeps its kind.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Hint: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the outermost classified error in err's chain.
// An unclassified error is Interrupted when its context was cancelled,
// Environment when the disk is full or read-only, else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return Environment
	default:
		return Internal
	}
}

// HintOf returns the first hint in err's chain, or a hint that follows from a
// well-known cause, or "".
func HintOf(err error) string {
	for e := err; e != nil; {
		var f *Error
		if !errors.As(e, &f) {
			break
		}
		if f.Hint != "" {
			return f.Hint
		}
		e = f.Err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return "free some space, run 'image-builder cache prune', or point IMAGE_BUILDER_HOME at a larger disk; finished phases are kept"
	}
	return ""
}

// ExitCode returns the process exit code for err: 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return int(KindOf(err))
}
