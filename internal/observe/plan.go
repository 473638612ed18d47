package observe

import (
	"fmt"
	"net/netip"
	"slices"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/vip"
)

// Planner says how addresses would be assigned.
type Planner interface {
	RaisePlan(*vip.Snapshot, vip.Alias) ([]string, error)
	CanLease() error
}

// RaisePlans are the commands that would assign the virtual IPs that are wanted
// and not here, each as if those before it were assigned already.
func (l Local) RaisePlans(j *Job, wanted func(netip.Addr) bool) (plans [][]string) {
	s := &vip.Snapshot{Links: slices.Clone(l.Snapshot.Links)}
	for _, a := range l.Aliases {
		if !wanted(a.Address()) || l.CannotTake(a.Address()) != "" {
			continue
		}
		argv, err := j.Tool.RaisePlan(s, a)
		if err != nil {
			j.Infof("%v", err)
			continue
		}
		if len(argv) == 0 {
			continue
		}
		plans = append(plans, argv)
		i := slices.IndexFunc(s.Links, func(l vip.Link) bool { return l.Name == a.Interface })
		label := a.Label
		if label == "" {
			label, _ = vip.FreeLabel(s, a.Interface)
		}
		s.Links[i].Addresses = append(slices.Clone(s.Links[i].Addresses), vip.Address{Prefix: a.Prefix, Label: label, Lease: a.Lease})
	}
	return plans
}

// RefusedByTool are the errors of virtual IPs that the tool cannot assign where they belong.
func (l Local) RefusedByTool(j *Job) (errs []error) {
	for _, a := range l.Aliases {
		if j.Tool == nil || l.CannotAssign(a) != "" {
			continue
		}
		if _, err := j.Tool.RaisePlan(l.Snapshot, a); err != nil {
			errs = append(errs, &run.Error{Code: run.CodeSettings, Text: err.Error(), Hint: "change label, interface or tool"})
		}
	}
	return errs
}

// canLease sees that the tool can give an alias a lifetime.
func canLease(j *Job) error {
	if j.Set.Lifetime() == 0 || len(j.Set.VIPs) == 0 || j.Tool == nil {
		return nil
	}
	if err := j.Tool.CanLease(); err != nil {
		if j.Set.Arbiter.Set() {
			return &run.Error{Code: run.CodeSettings, Text: fmt.Sprintf("arbiter: %v", err), Hint: "set tool to the ip of iproute2, or remove arbiter"}
		}
		return &run.Error{Code: run.CodeSettings, Text: fmt.Sprintf("lease %q: %v", config.DurationText(j.Set.Lease), err)}
	}
	return nil
}
