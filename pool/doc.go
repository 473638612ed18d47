// Package pool keeps a DNS record set honest: it holds the addresses of those
// members of a pool that are up.
//
// It knows neither the command line nor the state directory nor mail. A check
// is this chain of values; the caller makes the rounds, writes and mails:
//
//	set, err := server.Read(ctx, name)              // both families of one name
//	rec, finished := rec.Settle(set, settings, now) // who changed what since the last check
//	// round one, round two with the witnesses: Observation.Members, Witness
//	d := Decide(rec, observation, settings, now)    // pure; a dry run ends here
//	rec = rec.Intend(d)                             // written before the update
//	change := Change{zone, set, set.With(d.Leave, d.Return, settings.TTL)}
//	set, err = server.Publish(ctx, change)          // update, and read back
//	rec = rec.Apply(d, observation, settings, EffectOf(err), now)
//
// Where err is an *Error with the Problem Changed, another writer was faster:
// read, Settle and Decide again, at most three times in one run (Tries).
//
// Only dns.go knows the DNS library.
package pool
