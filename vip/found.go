package vip

import (
	"os"
	"sync"
	"time"
)

// foundTools are the tools that were found, by the setting. To look for one takes
// 0.2 ms. The zero value is ready.
type foundTools struct {
	mu    sync.Mutex
	tools map[string]foundTool
}

// foundTool is a tool, and its file when it was found.
type foundTool struct {
	Tool
	file os.FileInfo
	at   time.Time
}

// toolAge is how long a tool whose file is there is used before one is looked for
// that comes first.
const toolAge = time.Minute

// FindTool is the function FindTool; with Keep it finds again what is as it was.
func (p *Process) FindTool(setting string) (Tool, error) {
	if !p.keeps {
		return FindTool(setting)
	}
	f := &p.tools
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.tools[setting]; ok && time.Since(known.at) < toolAge {
		if now, err := os.Stat(known.Path); err == nil && os.SameFile(now, known.file) && now.Mode() == known.file.Mode() {
			return known.Tool, nil
		}
	}
	tool, err := FindTool(setting)
	if err != nil {
		return tool, err
	}
	if file, err := os.Stat(tool.Path); err == nil {
		if f.tools == nil {
			f.tools = map[string]foundTool{}
		}
		f.tools[setting] = foundTool{tool, file, time.Now()}
	}
	return tool, nil
}
