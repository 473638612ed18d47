package notify

import (
	"time"

	"pingover/state"
)

// Attention is what an operator should know besides the outcome. A check and
// status print the same.
type Attention struct {
	Services    []state.ServiceAnswer `json:"services"` // what they said in the last check
	Suppressed  *SuppressedCount      `json:"suppressed"`
	Alerts      []FiringAlert         `json:"alerts"`       // that fire
	Ready       *bool                 `json:"ready"`        // a takeover was rehearsed with success; null until one was
	ConfigError *string               `json:"config_error"` // why the file cannot be used
}

// SuppressedCount counts notifications that flap damping holds back.
type SuppressedCount struct {
	Count int        `json:"count"`
	Next  *time.Time `json:"next"` // when they are mailed at the latest; null where there are none
}

// FiringAlert is one that fires, as JSON has it.
type FiringAlert struct {
	Kind   string    `json:"kind"`
	Rule   int       `json:"rule"` // of the decision, 0 where it is none's
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// AttentionOf is what the record says of that, and the services.
func AttentionOf(h state.Head, services []state.ServiceAnswer) Attention {
	a := Attention{Services: append([]state.ServiceAnswer{}, services...), Suppressed: &SuppressedCount{Count: len(h.Damping.Suppressed)}, Alerts: []FiringAlert{}}
	if a.Suppressed.Count > 0 {
		a.Suppressed.Next = new(h.Damping.Next.UTC().Truncate(time.Second))
	}
	for _, f := range h.Alerts {
		a.Alerts = append(a.Alerts, FiringAlert{f.Kind, f.Rule, f.Since.UTC().Truncate(time.Second), f.Reason})
	}
	if !h.Rehearsed.IsZero() {
		a.Ready = new(h.Firing(string(NotReady)) == nil)
	}
	return a
}
