// Package exit is the one table of exit codes: the numbers after sysexits.h,
// and what each means, as help, the man page and the README show it.
package exit

import (
	"slices"

	"pingover/state"
)

// Codes that are not the outcome of a check.
const (
	Usage       = 64 // EX_USAGE: a usage error
	Unavailable = 69 // EX_UNAVAILABLE: the demo cannot run here
	Internal    = 70 // EX_SOFTWARE: an internal error
	Output      = 74 // EX_IOERR: the output could not be written
	Busy        = 75 // EX_TEMPFAIL: another run holds the lock
	Permission  = 77 // EX_NOPERM
	Config      = 78 // EX_CONFIG: a configuration error
)

// The outcome words of runs that made no check.
const (
	BusyOutcome  state.Outcome = "busy" // another run holds the lock
	ErrorOutcome state.Outcome = "error"
)

// Code is a row of the table.
type Code struct {
	Code    int
	Outcome string // "" for a code that is not an outcome
	Meaning string
}

func outcome(o state.Outcome, meaning string) Code { return Code{o.Code(), string(o), meaning} }

// PoolCodes are the rows that pools have in place of those of clusters with the
// same code; Unknown and StateFailed, and what is no outcome, they share.
func PoolCodes() []Code {
	return []Code{
		outcome(state.OK, "all members are up and in DNS"),
		outcome(state.Reduced, "a member is out of DNS"),
		outcome(state.Removed, "taken out of DNS in this run"),
		outcome(state.Restored, "put back into DNS in this run"),
		outcome(state.Blocked, "a member should leave DNS, but that was refused"),
		outcome(state.UpdateFailed, "the name server did not make the change"),
	}
}

// PoolCheckCodes is the table of a check of a pool, in ascending order.
func PoolCheckCodes() []Code {
	all := PoolCodes()
	for _, c := range Codes() {
		switch {
		case c.Outcome == string(state.Unknown), c.Outcome == string(state.StateFailed), c.Outcome == string(BusyOutcome):
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b Code) int { return a.Code - b.Code })
	return all
}

// Codes is the table, in ascending order.
func Codes() []Code {
	return []Code{
		outcome(state.OK, "the primary replies; this machine stands by"),
		outcome(state.Holding, "a failover is in effect here"),
		outcome(state.TookOver, "taken over in this run"),
		outcome(state.Released, "handed back in this run"),
		outcome(state.Elsewhere, "the primary is down and another standby serves"),
		outcome(state.Down, "the primary is down and there is no virtual IP to take over"),
		outcome(state.Unserved, "the primary replies, but a virtual IP or a service does not"),
		outcome(state.Unknown, "the check could not be made; nothing changed"),
		outcome(state.Blocked, "the primary looks down, but switching was refused"),
		outcome(state.TakeoverFailed, "not added, or not all of it"),
		outcome(state.ReleaseFailed, "not removed: it may still be here"),
		outcome(state.StateFailed, "switched, but it could not be written down"),
		{Usage, "", "usage error"},
		{Unavailable, "", "the demo cannot run here"},
		{Internal, "", "internal error"},
		{Output, "", "the output could not be written"},
		{Busy, string(BusyOutcome), "another run holds the lock"},
		{Permission, "", "no permission"},
		{Config, "", "configuration error, in the file or in a file it names"},
	}
}

// IsOutcome tells whether a word is the outcome of a check, of a cluster or a pool.
func IsOutcome(word string) bool {
	return slices.ContainsFunc(slices.Concat(Codes(), PoolCodes()), func(c Code) bool { return c.Outcome == word && word != "" })
}

// Worse is the code that several clusters share: that of the cluster which an
// operator has to look at first. A code that is not in the table is the worst.
func Worse(a, b int) int {
	return First(a, b, Internal, 31, 30, 32, Interrupted, Config, Permission, 21, 20, 14, 15, 13, 12, 11, 10, Busy, 0)
}

// Interrupted stands for the exit code of a run that a signal ended before it
// had done anything: the process must die of that signal. A failed switch and
// an internal error are reported all the same.
const Interrupted = -1

// First is the one of a and b that comes first in order; one that is not in
// it comes before all.
func First(a, b int, order ...int) int {
	if slices.Index(order, a) < slices.Index(order, b) {
		return a
	}
	return b
}
