package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pingover/internal/proc"
)

// toolTimeout is how long one call of ip or ifconfig may take; they take milliseconds.
const toolTimeout = 5 * time.Second

// Tool is the program that changes addresses: ip (of iproute2 or busybox) or ifconfig (of net-tools
// or busybox).
type Tool struct {
	Name string // ip or ifconfig
	Path string

	Process *Process // shared with other clusters that add at the same time; nil: there are none
}

func (t Tool) snapshot() (*Snapshot, error) {
	if t.Process == nil {
		return TakeSnapshot()
	}
	return t.Process.TakeSnapshot()
}

// String names the tool and its package: "ip of iproute2 (/usr/sbin/ip)". A hard link to busybox is
// not recognized.
func (t Tool) String() string {
	name := packageOf(t.Name)
	if t.busybox() {
		name = "busybox"
	}
	return fmt.Sprintf("%s of %s (%s)", t.Name, name, t.Path)
}

// packageOf is the Debian package of a tool, "" of what is none.
func packageOf(program string) string {
	switch program {
	case "ip":
		return "iproute2"
	case "ifconfig":
		return "net-tools"
	}
	return ""
}

// FindTool finds the tool that the setting names: "ip", "ifconfig", or "auto": ip where there is one.
func FindTool(setting string) (Tool, error) {
	names := []string{setting}
	if setting == "auto" {
		names = []string{"ip", "ifconfig"}
	}
	var missing []string
	for _, name := range names {
		if packageOf(name) == "" {
			return Tool{}, fmt.Errorf("tool %q: must be auto, ip or ifconfig", setting)
		}
		path, err := proc.Find(name)
		if err == nil {
			return Tool{Name: name, Path: path}, nil
		}
		missing = append(missing, fmt.Sprintf("%v (Debian package %s)", err, packageOf(name)))
	}
	return Tool{}, fmt.Errorf("tool %q: %s", setting, strings.Join(missing, "; "))
}

// run runs the tool with the arguments of a plan, and reports them as planned.
func (t Tool) run(ctx context.Context, plan []string) proc.Result {
	if t.Process != nil {
		defer t.Process.children.enter(ctx)()
	}
	result := proc.Run(ctx, proc.Command{Argv: append([]string{t.Path}, plan[1:]...), Timeout: toolTimeout})
	result.Argv = plan
	if result.Err != nil {
		result.Err = errors.New(strings.Replace(result.Err.Error(), t.Path, t.Name, 1))
	}
	return result
}

// addCommands are the commands that would add the address, the best one first. For IPv6 that one has
// nodad, because we have asked on the link already and the kernel's own check takes 1 to 2 s, and
// preferred_lft 0, so that the address is never chosen as source. The others are for an ip without
// these keywords: an address without a lease is better than none.
func (t Tool) addCommands(a Alias, label string) [][]string {
	v6 := a.Prefix.Addr().Is6()
	switch {
	case t.Name == "ifconfig" && v6:
		return [][]string{{"ifconfig", a.Interface, "add", a.Prefix.String()}}
	case t.Name == "ifconfig":
		return [][]string{{"ifconfig", label, a.Prefix.Addr().String(), "netmask", netmask(a.Prefix.Bits()), "up"}}
	}
	plain := Assignment{Interface: a.Interface, Address: Address{Prefix: a.Prefix, Label: label}}.commandWithLabel("add")
	switch {
	case a.Strict:
		return t.withLifetime(plain, v6, lifetime(a.Lease, v6))
	case a.Lease > 0:
		return append(t.withLifetime(plain, v6, lifetime(a.Lease, v6)), plain)
	case v6:
		return append(t.withLifetime(plain, v6, []string{"preferred_lft", "0"}), plain)
	}
	return [][]string{plain}
}

// withLifetime are variants of a command with a lifetime, the best one first.
func (t Tool) withLifetime(plain []string, v6 bool, lifetime []string) [][]string {
	late := slices.Concat(plain, lifetime)
	if !v6 || t.busybox() {
		return [][]string{late}
	}
	return [][]string{slices.Concat(plain, []string{"nodad"}, lifetime), late}
}

// command is one of ip for an assignment.
func (p Assignment) command(verb string) []string {
	argv := []string{"ip", "addr", verb, p.Address.Prefix.String(), "dev", p.Interface}
	if p.Address.Peer.IsValid() {
		argv = []string{"ip", "addr", verb, p.Address.Prefix.Addr().String(), "peer", p.Address.Peer.String(), "dev", p.Interface}
	}
	if p.Address.Prefix.Addr().Is6() {
		argv = slices.Insert(argv, 1, "-6")
	}
	return argv
}

// commandWithLabel is the command with the label. Without one the kernel uses the interface's name.
func (p Assignment) commandWithLabel(verb string) []string {
	argv := p.command(verb)
	if label := p.Address.Label; label != "" && label != p.Interface {
		argv = append(argv, "label", label)
	}
	return argv
}

// usageRefused reports whether other arguments may help: the tool itself refused these. Exit code 2 is
// the kernel's refusal, with both kinds of ip.
func usageRefused(r proc.Result) bool {
	return r.Code > 0 && r.Code != 2
}

// busybox reports whether the tool is part of busybox; a hard link to it is not recognized.
func (t Tool) busybox() bool {
	path, err := filepath.EvalSymlinks(t.Path)
	return err == nil && strings.HasPrefix(filepath.Base(path), "busybox")
}

// removal is how to remove one assignment.
type removal struct {
	tool    Tool
	argv    []string
	protect bool // promote_secondaries has to be on meanwhile, or the kernel removes other addresses too
}

// removal plans it with this tool. ifconfig finds an IPv4 address by its label only: where that is not
// the address's own, "down" would remove another address or the interface itself, so ip has to do it.
func (t Tool) removal(k *Snapshot, p Assignment) (removal, error) {
	a := p.Address
	r := removal{tool: t, protect: len(k.dependents(p)) > 0 && !promotes(p.Interface)}
	switch {
	case t.Name == "ifconfig" && a.Prefix.Addr().Is6():
		r.argv = []string{"ifconfig", p.Interface, "del", netip.PrefixFrom(a.Prefix.Addr(), a.network().Bits()).String()}
		return r, nil
	case t.Name == "ifconfig" && k.ownLabel(p):
		r.argv = []string{"ifconfig", a.Label, "down"}
		return r, nil
	case t.Name == "ifconfig":
		ip, err := FindTool("ip")
		if err != nil {
			return removal{}, fmt.Errorf("it has no alias label of its own (its label is %q), so ifconfig cannot remove it, and %w", a.Label, err)
		}
		r.tool = ip
	}
	r.argv = p.command("del")
	return r, nil
}

// ownLabel reports whether an address has an alias label that no other address shares.
func (k *Snapshot) ownLabel(p Assignment) bool {
	for _, other := range k.withLabel(p.Address.Label) {
		if other.Addr() != p.Address.Prefix.Addr() {
			return false
		}
	}
	return strings.HasPrefix(p.Address.Label, p.Interface+":")
}

func netmask(bits int) string {
	return net.IP(net.CIDRMask(bits, 32)).String()
}

// Exclusive reports whether nothing else may be added at the same time: ifconfig first gives an address
// the netmask of its class, and addresses that are added to that network meanwhile are removed with it.
func (t Tool) Exclusive() bool { return t.Name == "ifconfig" }
