package ui

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// number matches what is aligned at the right: counts, sizes, times, percents.
var number = regexp.MustCompile(`^[-+]?\d+(\.\d+)?( ?([KMGTPE]iB|B|%|s))?$|^\d+[hm]\d\d[ms]$`)

// Table writes rows under headers in aligned columns, two spaces apart. A
// column of numbers, sizes or times is aligned at the right. Cells are shown
// as one line each. It returns the error of writing.
func Table(w io.Writer, headers []string, rows [][]string) error {
	all := append([][]string{headers}, rows...)
	var widths []int
	for i, r := range all {
		all[i] = make([]string, len(r))
		for j, c := range r {
			c = clean(c)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			all[i][j], widths[j] = c, max(widths[j], cells(c))
		}
	}
	var b strings.Builder
	for _, r := range all {
		parts := make([]string, len(r))
		for j, c := range r {
			parts[j] = pad(c, widths[j], numeric(all[1:], j))
		}
		b.WriteString(strings.TrimRight(strings.Join(parts, "  "), " ") + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing a table: %w", err)
	}
	return nil
}

// numeric reports whether column j holds numbers. A word that stands for a
// missing one does not count.
func numeric(rows [][]string, j int) bool {
	some := false
	for _, r := range rows {
		if j >= len(r) || r[j] == "" || r[j] == "-" || r[j] == "cached" {
			continue
		}
		if !number.MatchString(r[j]) {
			return false
		}
		some = true
	}
	return some
}
