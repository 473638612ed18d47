package pool

import (
	"context"
	"time"

	_ "github.com/miekg/dns"
)

// Tries is how often a run reads, decides and updates while other writers are faster.
const Tries = 3

// Server is a zone's primary name server, asked by TCP only.
type Server struct {
	Address string        // host:port, as ServerAddress returns it
	Key     Key           // signs each question and verifies each answer; zero: unsigned
	Timeout time.Duration // of one exchange, connecting included; 0: 5 s
}

// Zone is a zone as its SOA record describes it.
type Zone struct {
	Name     string        // fully qualified, lower case, with the final dot
	Primary  string        // the name server that the SOA names as the source of the zone's data; a hidden primary is another one
	Negative time.Duration // for which resolvers keep in mind that a record is not there
}

// ServerAddress is a `server` setting as host:port: a host name or an address,
// with or without a port (53).
func ServerAddress(server string) (string, error) { return "", nil }

// Name is a `record` setting as a fully qualified name in lower case, with the
// final dot.
func Name(record string) (string, error) { return "", nil }

// Read reads both record sets of a name. Records of other owners do not count;
// a name that does not exist is an empty Set. Any doubt is an *Error: no answer,
// not authoritative, a CNAME, an unsigned answer to a signed question.
func (s Server) Read(ctx context.Context, name string) (Set, error) { return Set{}, nil }

// FindZone asks the server which of its zones a name is in.
func (s Server) FindZone(ctx context.Context, name string) (Zone, error) { return Zone{}, nil }

// Publish makes a change, provided that both record sets are exactly as in
// Before, and reads back for up to 6 s until it is published. A lost answer is
// settled by reading. The set is the one read last. Errors are *Error: Changed
// when the set was another one, and Unsettled tells what only the next run can.
func (s Server) Publish(ctx context.Context, c Change) (Set, error) { return Set{}, nil }

// TestUpdate tries the right to update a name without changing anything: the
// deletion of a record that is not there (RFC 2136 3.4.2.4), which needs the
// full right.
func (s Server) TestUpdate(ctx context.Context, zone, name string) error { return nil }
