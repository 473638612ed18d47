// Package pool keeps a DNS record set honest: it holds the addresses of those
// members of a pool that are up.
//
// It knows neither the command line nor the state directory nor mail. A check is
// this chain of values; the caller makes the rounds, writes and mails:
//
//	set, err := server.Read(ctx, name)                  // both families of one name
//	rec, finished := rec.Settle(set, settings, now)     // who changed what since the last check
//	// round one, round two with the witnesses: Observation.Members, Witness
//	d := Decide(rec, observation, settings, now)        // pure; a dry run ends here
//	rec = rec.Intend(d, now)                            // written before the update
//	change := Change{zone, set, set.With(d.Leave, d.Return, settings.TTL)}
//	set, err = server.Publish(ctx, change)              // update, and read back
//	rec = rec.Apply(d, observation, EffectOf(err), now) // written with the mail
//
// Where the set cannot be read, its error is Observation.Fault, and Settle is left
// out. Where Publish returns an error with the Problem Changed, another writer was
// faster: Withdraw, Read, Settle and Decide again, at most three times in one run
// (Tries). A finished update of an interrupted run is reported whatever this check
// decides.
//
// A manual drain is the same chain with DecideDrain, Drain before Intend, and Moved
// in place of Apply. Undrain needs no update.
//
// Only dns.go knows the DNS library.
package pool
