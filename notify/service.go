package notify

import (
	"fmt"
	"slices"
	"strings"

	"pingover/check"
	"pingover/state"
)

// The alerts about services.
const (
	ServiceDown Kind = "service-down" // holding, but a service does not work at the virtual IPs
	Certificate Kind = "certificate"  // of a service, which does not verify
)

// ServiceConditions are the bad states of services besides the outcome: one that
// does not work at the virtual IPs that are here, and a certificate that keeps one
// from being judged. What was not asked changes neither.
func ServiceConditions(rec state.Record, o state.Observation, fall int, certificates []string) (all []Condition) {
	if len(o.Services) == 0 && rec.Firing(string(ServiceDown)) == nil && rec.Firing(string(Certificate)) == nil {
		return nil
	}
	holding := slices.ContainsFunc(o.VIPs, func(v state.VIPStatus) bool { return v.Held })
	var down []string
	known := false // some answer
	for i, s := range o.Services {
		known = known || s.Serving.Health != check.HealthUnknown || s.AtHost.Health != check.HealthUnknown
		if i < len(rec.Services) && rec.Services[i].Bad >= fall && s.Serving.Health != check.Good {
			down = append(down, strings.TrimSuffix("service "+s.Name+" does not work: "+s.Serving.Reason, ": "))
		}
	}
	all = append(all, Condition{
		Kind: ServiceDown, Firing: holding && len(down) > 0, Good: rec.Streaks.Served, Over: !holding || len(o.Services) == 0,
		Reason: "holding, but " + strings.Join(down, "; "),
	})
	if len(certificates) > 0 || known || len(o.Services) == 0 {
		all = append(all, Condition{
			Kind: Certificate, Firing: len(certificates) > 0, Over: len(certificates) == 0, Reason: strings.Join(certificates, "; "),
		})
	}
	return all
}

// answers write what the services said.
func (p *page) answers(all []state.ServiceAnswer) {
	for _, a := range all {
		text := fmt.Sprintf("service %s at %s: %s", a.Service, a.Address, a.Health)
		if a.Reason != "" {
			text += ": " + a.Reason
		}
		p.item(text)
	}
}

// notGood are the services that were not good, by name.
func notGood(e state.Evidence) string {
	var names []string
	for _, health := range []check.Health{check.Bad, check.HealthUnknown} {
		for _, a := range e.Answers {
			if a.Health == health.String() {
				names = append(names, a.Service)
			}
		}
		if len(names) > 0 {
			break
		}
	}
	names = distinct(names)
	if len(names) == 0 {
		return "a service"
	}
	return pick(len(names), "service ", "services ") + strings.Join(names, ", ")
}

// serviceWords are the text about a service that does not work at the primary, or
// here.
func serviceWords(c Cluster, n Notification) words {
	what, me, host := notGood(n.Evidence), c.Hostname, c.Host
	switch n.Kind {
	case ServiceDown:
		held := list(orAll(n.Held, c))
		return words{
			subject:  fmt.Sprintf("%s holds %s, but %s does not work", me, held, what),
			happened: fmt.Sprintf("%s holds %s, but %s does not work there: clients are not served.", me, held, what),
			todo:     fmt.Sprintf("Find out on %s why it does not run; \"%s\" runs post-takeover again.", me, c.command("takeover")),
		}
	case Certificate:
		return words{
			subject:  fmt.Sprintf("the certificate of %s does not verify", what),
			happened: fmt.Sprintf("%s cannot verify the TLS certificate of a service. Until it can, the service counts neither as good nor as bad, and is no reason to switch.", me),
			todo:     fmt.Sprintf("Renew the certificate, or set service-ca to the CA that has signed it, and check the clock of %s.", me),
		}
	}
	at := host
	if len(c.VIPs) > 0 {
		at = list(c.VIPs)
	}
	return words{
		subject:  fmt.Sprintf("%s does not work, while %s is up", what, host),
		happened: fmt.Sprintf("%s is up, but %s does not work at %s. Nothing was switched.", host, what, at),
		todo:     fmt.Sprintf("Find out on %s why it does not run.", host) + manually(c),
	}
}

// manually is the command that takes over from a primary that is up.
func manually(c Cluster) string {
	if len(c.VIPs) == 0 {
		return ""
	}
	return fmt.Sprintf(" A manual takeover from a primary that is up is \"%s\".", c.command("takeover"))
}
