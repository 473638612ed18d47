package config

import "time"

const (
	// giveWay is the most that a look takes beyond two rounds and the wait
	// between them: 3s for a lower MAC to go first, and the last word.
	giveWay = 4 * time.Second
	// faceRival is the most that a look takes beyond one round while
	// holding: 10s of silence before a rival, and the question after it.
	faceRival = 12 * time.Second
)

// Round is how long a round of pings takes in which nobody answers.
func (c Cluster) Round() time.Duration {
	return time.Duration(c.Count-1)*c.Interval + c.Timeout
}

// LongestLook is the longest that a check looks before it decides: two silent
// rounds, or a rival met while holding.
func (c Cluster) LongestLook() time.Duration {
	return max(2*c.Round()+c.RetryWait+giveWay, c.Round()+faceRival)
}
