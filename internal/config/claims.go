package config

import "net/netip"

// claims are the values that only one cluster or pool can have, and its name.
type claims struct {
	file     string           // of the clusters
	names    map[string]Scope // that are taken
	vips     map[netip.Addr]string
	labels   map[string]string
	records  map[string]string
	reserved []string // the labels
	metrics  bool     // metrics-file is checked
	cluster  *draft   // the first cluster
}

func newClaims(file string) *claims {
	return &claims{
		file: file, names: map[string]Scope{}, vips: map[netip.Addr]string{}, labels: map[string]string{}, records: map[string]string{},
	}
}

// check checks that a cluster or pool claims nothing that another one has.
func (c *claims) check(d *draft) {
	if d.bad["name"] {
		return
	}
	if scope, taken := c.names[d.Name]; taken && scope != d.scope {
		d.wrong("name", 0, "a %s has this name: clusters and pools share one name space", scope)
	}
	c.names[d.Name] = d.scope
	c.checkMetrics(d)
	if d.scope == Pools {
		c.checkRecord(d)
		return
	}
	if !d.bad["vip"] {
		for i, v := range d.VIPs {
			if other, taken := c.vips[v.Address()]; taken {
				d.wrong("vip", i, "cluster %s already has it", other)
				continue
			}
			c.vips[v.Address()] = d.Name
		}
	}
	if d.is("label") {
		if other, taken := c.labels[d.Label]; taken {
			d.wrong("label", 0, "cluster %s already has it", other)
		} else {
			c.labels[d.Label] = d.Name
			c.reserved = append(c.reserved, d.Label)
		}
	}
	if c.cluster == nil {
		c.cluster = d
	}
	if d.ARPRate != c.cluster.ARPRate && !d.bad["arp-rate"] {
		d.wrong("arp-rate", 0, "must be the same for all clusters, but cluster %s has %d; put it into defaults", c.cluster.Name, c.cluster.ARPRate)
	}
}

// checkMetrics checks once that the metrics, one file of all, do not overwrite the
// configuration.
func (c *claims) checkMetrics(d *draft) {
	if c.metrics || d.bad["metrics-file"] {
		return
	}
	c.metrics = true
	if sameFile(c.file, d.MetricsFile) {
		d.wrong("metrics-file", 0, "is the configuration file, which the metrics would overwrite")
	}
}

// checkRecord checks that no other pool keeps the same records: each would undo
// what the other does.
func (c *claims) checkRecord(d *draft) {
	if !d.is("record") {
		return
	}
	if other, taken := c.records[d.pool.Record]; taken {
		d.wrong("record", 0, "pool %s already has it", other)
		return
	}
	c.records[d.pool.Record] = d.Name
}

// holder is the cluster with that virtual IP. A link-local one without an
// interface may be assigned to any.
func (c *claims) holder(a netip.Addr) (name string, taken bool) {
	if name, taken = c.vips[a]; !taken {
		name, taken = c.vips[a.WithZone("")]
	}
	return name, taken
}

// checkWitness checks that no witness is a virtual IP of another cluster: while
// that is held here, this machine would reply to itself.
func (c *claims) checkWitness(d *draft) {
	if !d.is("witness") || d.bad["name"] {
		return
	}
	for i, addr := range d.Witness.Addresses {
		if other, taken := c.holder(addr); taken && other != d.Name {
			d.wrong("witness", i, "is a vip of cluster %s, which may be assigned here; set witness to a third machine", other)
		}
	}
}

// checkHost checks that no host is a virtual IP of another cluster: while that is
// held here, it cannot be pinged, and its own would never be taken over.
func (c *claims) checkHost(d *draft) {
	if d.bad["name"] {
		return
	}
	for i, host := range d.hostAddresses() {
		if other, taken := c.holder(host); taken && other != d.Name {
			d.wrong("host", i, "is a vip of cluster %s, which may be assigned here; put the vips of both into one cluster, or give an address that stays on the primary", other)
		}
	}
}
