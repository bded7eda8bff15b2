package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// suggest ends a message about an unknown word: the nearest valid word, or all
// valid ones (called what, e.g. "valid keys") if none is near.
func suggest(word, what string, valid []string) string {
	if near := Nearest(word, valid); near != "" {
		return fmt.Sprintf("did you mean %s?", strconv.Quote(near))
	}
	return what + ": " + strings.Join(valid, ", ")
}

// Nearest returns the valid word that word is most likely a misspelling of, or
// "". A third of the letters may differ; case does not count.
func Nearest(word string, valid []string) string {
	const longest = 64 // no valid word is longer; keeps the distance cheap
	if len(word) > longest {
		return ""
	}
	best, least := "", longest
	for _, v := range valid {
		d := distance(strings.ToLower(word), strings.ToLower(v))
		if d <= max(len(word), len(v))/3 && d < least {
			best, least = v, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance of optimal string alignment: the
// least number of letters inserted, deleted, replaced or swapped with their
// neighbour that turns a into b.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(s)][len(t)]
}
