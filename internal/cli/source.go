package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/notify"
	"pingover/state"
)

// source is the configuration file from which clusters come, and what became of
// it.
type source struct {
	path     string // absolute; "" where flags define the cluster, or nothing does
	text     []byte // as it was read; nil where it could not be
	problems config.Problems
	kept     state.ValidConfig // only looked for where there are problems
	dir      state.Dir         // where kept is
}

// usable reports whether the file can be used.
func (s source) usable() bool { return len(s.problems) == 0 }

// texts are the errors of the file.
func (s source) texts() []string {
	var texts []string
	for _, problem := range s.problems {
		texts = append(texts, problem.Error())
	}
	return texts
}

// brief says since when the file cannot be used, and why.
func (s source) brief() string {
	text := s.path + " cannot be used"
	if since := s.kept.Unusable; !since.IsZero() {
		text += " since " + clock(since.Local())
	}
	text += ": " + s.problems[0].Error()
	if n := len(s.problems) - 1; n > 0 {
		text += ", and " + count(n, "more error")
	}
	return text
}

// unusable notes that the file cannot be used, and looks for the copy that was
// valid last. It reports false for an error that is not the file's.
func (p Program) unusable(c *cli.Context, src *source, err error) bool {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok || problems.Code() != exit.Config || src.path == "" {
		return false
	}
	src.problems = problems
	dirs := stateDirsIn(src.text)
	if dir, err := config.StateDir(settings(c), p.Env); err == nil {
		dirs = append([]string{dir}, dirs...)
	}
	src.kept.Path = src.path
	for i, dir := range dirs {
		kept, err := state.Dir(dir).ValidConfig(src.path)
		if err != nil && !errors.Is(err, os.ErrPermission) {
			errorf(p.Stderr, "%v", err)
		}
		if i == 0 || kept.Text != "" {
			src.kept, src.dir = kept, state.Dir(dir)
		}
		if kept.Text != "" {
			break
		}
	}
	return true
}

// stateDirsIn finds the state directories that a file with errors names: the copy
// is in one of them.
func stateDirsIn(text []byte) (dirs []string) {
	for _, m := range regexp.MustCompile(`\bstate-dir["']?[ \t]*:[ \t]*["']?(/[^\s"',}#]*)`).FindAllSubmatch(text, -1) {
		if dir := string(m[1]); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// fromCopy are the tasks of the file as it was valid last, none without a
// copy.
func (p Program) fromCopy(c *cli.Context, src source) ([]Task, error) {
	if src.kept.Text == "" {
		return nil, nil
	}
	env := p.Env
	env.Kept = true
	file, err := config.FromFile(src.path, []byte(src.kept.Text), settings(c), env, namesIn(c)...)
	if problems, ok := errors.AsType[config.Problems](err); ok && problems.Code() != exit.Usage {
		return nil, nil // by a newer pingover it is invalid: as good as none
	}
	return p.tasks(file), err
}

// codeOf is the exit code of a check whose file cannot be used: its own where that
// says something of the clusters, and else that of the file.
func (s source) codeOf(code int) int {
	own := code >= 10 && code <= 15 || code == 20 || code == 21 || code >= 30 && code <= 32
	if s.usable() || own || code == exit.Internal || code == exit.Interrupted {
		return code
	}
	return exit.Config
}

// reportUnusable prints the errors of the file where that is due, or always.
func (p Program) reportUnusable(src source, tasks []Task, always bool) {
	if src.usable() {
		return
	}
	if _, due := notify.PlanFile(src.kept, src.texts(), nil, remindOf(tasks), time.Now()); !due && !always {
		return
	}
	for _, text := range src.texts() {
		errorf(p.Stderr, "%s", text)
	}
	switch {
	case src.kept.Text != "":
		errorf(p.Stderr, "%s cannot be used; going on with the last valid file, of %s", src.path, clock(src.kept.Valid.Local()))
	case len(tasks) > 0:
		errorf(p.Stderr, "%s cannot be used, and no valid copy of it is known; only clusters that hold an address are checked, with the settings of their last check", src.path)
	}
}

// refreshed is how old the time of a copy gets: by it the copies of files that are
// no longer used go first.
const refreshed = 24 * time.Hour

// keepFile keeps what is known of the file after a check: its text while it is
// valid, and what was reported of its errors. It sends the mail about that. A copy
// that cannot be written changes nothing of the checks.
func (p Program) keepFile(ctx context.Context, out printer, src source, tasks []Task) {
	if src.path == "" || len(tasks) == 0 {
		return
	}
	dir, now := src.dir, time.Now()
	if src.usable() {
		dir = tasks[0].StateDir
	}
	kept, _ := dir.ValidConfig(src.path) // what is not trusted is written anew
	if !src.usable() && kept.Text == "" {
		kept = src.kept
	}
	before := kept
	if text := string(src.text); src.usable() && (kept.Text != text || now.Sub(kept.Valid).Abs() > refreshed) {
		kept.Text, kept.Valid = text, now.UTC().Truncate(time.Second)
	}
	kept, changed := notify.PlanFile(kept, src.texts(), recipients(tasks, p.Env.Hostname), remindOf(tasks), now.UTC().Truncate(time.Second))
	changed = changed || kept.Text != before.Text || !kept.Valid.Equal(before.Valid)
	if changed {
		if err := dir.SaveValidConfig(kept); err != nil {
			if !errors.Is(err, state.ErrBusy) && out.verbose {
				errorf(p.Stderr, "the copy of the valid file cannot be written: %v", err)
			}
			return // what is not written down would be mailed in every run
		}
		if src.usable() && !before.Unusable.IsZero() {
			errorf(p.Stderr, "%s can be used again", src.path)
		}
	}
	if len(kept.Outbox) == 0 || tasks[0].Deliver == nil {
		return
	}
	left := p.deliver(ctx, kept.Outbox, tasks)
	if len(left) == len(kept.Outbox) {
		return
	}
	kept.Outbox = left
	if err := dir.SaveValidConfig(kept); err != nil && out.verbose {
		errorf(p.Stderr, "the copy of the valid file cannot be written: %v", err)
	}
}

// deliver hands each message to the mail server of a task that has its
// recipients, and returns those that were not delivered.
func (p Program) deliver(ctx context.Context, outbox []state.Message, tasks []Task) (left []state.Message) {
	for _, m := range outbox {
		i := slices.IndexFunc(tasks, func(t Task) bool {
			if m.Event != "" {
				return t.Mail.Notify != nil
			}
			return slices.Contains(t.Mail.To, m.To[0])
		})
		if i < 0 {
			continue // nobody to tell any more
		}
		rest, err := tasks[i].Deliver(ctx, []state.Message{m})
		if err != nil {
			errorf(p.Stderr, "mail is pending: %v", err)
		}
		left = append(left, rest...)
	}
	return left
}

// recipients are those of the tasks, one group for each mail server: what
// is about the file is mailed once and not per cluster.
func recipients(tasks []Task, hostname string) (groups []notify.Cluster) {
	servers := map[string]int{}
	names := map[int][]string{}
	for _, t := range tasks {
		if t.Mail.Silent() {
			continue
		}
		mail := t.Mail
		mail.To = nil
		server := fmt.Sprintf("%#v", mail)
		i, known := servers[server]
		if !known {
			i = len(groups)
			servers[server] = i
			groups = append(groups, t.About)
			groups[i].Hostname, groups[i].Command = cmp.Or(hostname, "localhost"), t.Mail.Notify != nil
		}
		groups[i].To = append(groups[i].To, t.Mail.To...)
		names[i] = append(names[i], t.Name)
	}
	const most = 3
	for i := range groups {
		all := names[i]
		if len(all) > 1 {
			groups[i].Host, groups[i].VIPs = "", nil
		}
		if len(all) > most {
			all = append(slices.Clone(all[:most-1]), fmt.Sprintf("%d more", len(all)-most+1))
		}
		groups[i].Name = strings.Join(all, ", ")
	}
	return groups
}

// remindOf is after how long the errors of the file are reported again.
func remindOf(tasks []Task) time.Duration {
	for _, t := range tasks {
		if !t.Mail.Silent() {
			return t.Mail.Remind
		}
	}
	return 24 * time.Hour // the default of remind
}

// absolute is a path that names the file in every directory.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
