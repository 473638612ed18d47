package run

import (
	"net/netip"
	"time"

	"pingover/state"
)

// A run reports what it does by handing one of these to OnEvent. They are facts;
// the words belong to the package that prints.
type (
	// RoundBegan says that the first ping of round N (1 or 2) is about to leave.
	RoundBegan struct {
		N        int
		Host     string
		Address  netip.Addr
		Count    int
		Interval time.Duration
		Timeout  time.Duration
	}
	// Replied says that the host replied to ping Seq (from 1) of round N.
	Replied struct {
		N, Seq  int
		Address netip.Addr
		RTT     time.Duration
	}
	// RoundEnded carries what round N found at one address of the host.
	RoundEnded struct {
		N       int
		Several bool // the host has several addresses
		Round   state.Round
	}
	// Waiting says that nothing happens for so long, and why.
	Waiting struct {
		For time.Duration
		Why string
	}
	// Stage is what is being done after the decision, and may take long.
	Stage string
	// Ran carries a command that was run, or in a dry run would be.
	Ran struct {
		Command state.Command
		DryRun  bool
	}
	// LockWaited says that another run, by its pid where that is known, holds
	// the lock, and how long it is waited for.
	LockWaited struct {
		PID int
		For time.Duration
	}
	// Delivered counts messages that were handed over, and says why others were
	// not.
	Delivered struct {
		Sent, Waiting int
		Error         error
	}
	// Note is something an operator should know although the check goes on: a
	// name that no longer resolves, a corrupt record kept aside, no witness.
	// Warnings are printed even when the check is not verbose: they come once,
	// not in every run.
	Note struct {
		Text    string
		Warning bool
	}
)
