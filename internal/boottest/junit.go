package boottest

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// The elements of JUnit's XML report that CI systems agree on. Times are
// seconds.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit returns the record as a JUnit report: a suite per boot, a case per
// check. A test that failed outside of any check is a case of its own.
func (r *Record) junit() ([]byte, error) {
	all := junitSuites{Name: "image-builder test", Time: seconds(r.Finished.Sub(r.Started).Seconds())}
	for i := range r.Boots {
		all.add(r.suite(&r.Boots[i]))
	}
	if r.Error != "" && all.Failures == 0 {
		all.add(junitSuite{
			Name: "test", Tests: 1, Failures: 1, Time: "0.000", Timestamp: r.Started.Format(time.RFC3339), Properties: r.properties(),
			Cases: []junitCase{{Class: "test", Name: "the test runs", Time: "0.000", Failure: &junitFailure{Message: r.Error}}},
		})
	}
	b, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

func (s *junitSuites) add(suite junitSuite) {
	s.Suites = append(s.Suites, suite)
	s.Tests += suite.Tests
	s.Failures += suite.Failures
}

func (r *Record) suite(b *Boot) junitSuite {
	s := junitSuite{
		Name: "boot " + b.Name, Tests: len(b.Checks), Failures: b.failures(), Time: seconds(b.Seconds),
		Timestamp: b.Started.Format(time.RFC3339), Properties: r.properties(),
	}
	for _, c := range b.Checks {
		k := junitCase{Class: "boot." + b.Name, Name: c.Title, Time: seconds(c.Seconds)}
		if c.Result == Failed {
			k.Failure = &junitFailure{Message: c.Detail, Text: strings.Join(c.Log, "\n")}
		} else {
			k.Output = c.Detail
		}
		s.Cases = append(s.Cases, k)
	}
	return s
}

func (r *Record) properties() []junitProperty {
	return []junitProperty{
		{"image", r.Image.Path}, {"sha256", r.Image.SHA256}, {"qemu", r.QEMU}, {"accel", string(r.Accel)}, {"builder", r.Builder},
	}
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }
