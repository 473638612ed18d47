package pool

// Script is the change as input for nsupdate(1), with its prerequisites, one
// command a line, "send" last. server is as in Server.Address; keyName is "" for
// unsigned updates, and is only named in a comment.
func (c Change) Script(server string) string { return "" }
