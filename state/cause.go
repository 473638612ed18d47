package state

// Cause is what kept a run from switching, or from checking, as a value: advice
// rests on it, never on the words of a reason. The zero value is any other cause.
type Cause string

// The causes that there is advice about.
const (
	CausePaused          Cause = "paused"
	CauseBootWait        Cause = "boot-wait"
	CauseManualRelease   Cause = "manual-release"     // and the primary was not up since
	CauseNoWitness       Cause = "no-witness"         // none is set, and no gateway serves as one
	CauseWitnessSilent   Cause = "witness-silent"     // none replied
	CauseWitnessNotAsked Cause = "witness-not-asked"  // for a fault of this machine
	CauseIsolated        Cause = "isolated"           // no witness replied in two checks in a row: released
	CauseAlive           Cause = "primary-alive"      // the primary replies to ARP or ND, not to pings
	CauseInUse           Cause = "in-use"             // another machine has a virtual IP
	CauseCompeting       Cause = "competing-prober"   // another standby is taking over
	CauseArbiter         Cause = "arbiter"            // another machine holds its key, or it does not answer
	CausePreTakeover     Cause = "pre-takeover"       // the hook failed
	CauseService         Cause = "service"            // the primary is up without it, and fenced for it
	CauseFewest          Cause = "min-members"        // of a pool: too few would be left
	CauseName            Cause = "name-not-resolved"  // of the primary
	CauseRefused         Cause = "refused-by-network" // an ICMP message refuses the pings
)

// cause is why no witness counts.
func (w WitnessState) cause() Cause {
	switch w {
	case WitnessNone:
		return CauseNoWitness
	case WitnessNotAsked:
		return CauseWitnessNotAsked
	}
	return CauseWitnessSilent
}
