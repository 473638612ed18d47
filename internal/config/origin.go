package config

import (
	"cmp"
	"fmt"
	"strings"
)

// Origin is an effective setting of a cluster or pool, and its origin.
type Origin struct {
	Setting string
	Values  []string // one, except for lists; in words if there is neither a value nor a Default
	From    string   // --interval, FILE:LINE or default
}

// String is such as "retry-wait 5s (/etc/pingover.yaml:12)".
func (o Origin) String() string {
	return fmt.Sprintf("%s %s (%s)", o.Setting, strings.Join(o.Values, ", "), o.From)
}

// Origins are all settings of the cluster, in the order of the table. There is no
// password among them: none is the value of a setting.
func (c Cluster) Origins() []Origin {
	return origins(Clusters, c.Given, c.From, map[string]string{"name": c.Name, "state-dir": c.StateDir})
}

// Origins are all settings of the pool, in the order of the table.
func (p Pool) Origins() []Origin {
	return origins(Pools, p.Given, p.From, map[string]string{"name": p.Name, "state-dir": p.StateDir})
}

func origins(scope Scope, given map[string][]string, from, found map[string]string) []Origin {
	var origins []Origin
	for _, s := range of(scope) {
		o := Origin{s.Name, given[s.Name], from[s.Name]}
		if len(o.Values) == 0 {
			o.Values, o.From = []string{cmp.Or(found[s.Name], s.Default, s.Derived)}, "default"
		}
		origins = append(origins, o)
	}
	return origins
}
