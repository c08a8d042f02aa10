package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ossify/generate"
	"ossify/openai"
)

// metrics are what /metrics tells, in a registry of their own.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	answers  *prometheus.CounterVec
	tokens   *prometheus.CounterVec
	first    prometheus.Histogram
	between  prometheus.Histogram
}

func newMetrics(stats func() generate.SchedulerStats, bodies func() int64) *metrics {
	r := prometheus.NewRegistry()
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	histogram := func(name, help string, from float64, n int) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(from, 2, n)})
		r.MustRegister(h)
		return h
	}
	m := &metrics{
		requests: counter("ossify_requests_total", "HTTP requests, by route and status.", "route", "status"),
		answers:  counter("ossify_answers_total", "Answers, by path and why they ended.", "path", "finish"),
		tokens:   counter("ossify_tokens_total", "Tokens: of prompts, of them those that were cached, of answers, of them those of reasoning.", "kind"),
		first:    histogram("ossify_first_token_seconds", "From a request to its first token.", 0.004, 16),
		between:  histogram("ossify_token_seconds", "Between tokens of an answer, on average.", 0.001, 14),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ossify_request_seconds", Help: "From a request's headers to the end of the answer.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 12),
		}, []string{"route"}),
	}
	r.MustRegister(m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ossify_body_bytes", Help: "Bodies of requests under way, beyond the first 64 KiB of each."}, func() float64 { return float64(bodies()) }))
	if stats != nil {
		gauge := func(name, help string, value func(generate.SchedulerStats) float64) {
			r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(stats()) }))
		}
		gauge("ossify_waiting_requests", "Requests that wait for their turn.", func(s generate.SchedulerStats) float64 { return float64(s.Waiting) })
		gauge("ossify_active_requests", "Requests that are computed.", func(s generate.SchedulerStats) float64 { return float64(s.Active) })
		gauge("ossify_kept_sequences", "Sequences kept for later prompts.", func(s generate.SchedulerStats) float64 { return float64(s.Kept) })
		gauge("ossify_cache_bytes", "Keys and values of sequences, what they share counted for each.", func(s generate.SchedulerStats) float64 { return float64(s.CacheBytes) })
		total := func(name, help string, value func(generate.SchedulerStats) int64) {
			r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(stats())) }))
		}
		total("ossify_steps_total", "Steps of the model.", func(s generate.SchedulerStats) int64 { return s.Steps })
		total("ossify_put_back_total", "Requests whose cache was given up for others'.", func(s generate.SchedulerStats) int64 { return s.PutBack })
	}
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) record(r openai.Record) {
	finish := r.Finish
	switch {
	case r.Cancelled:
		finish = "cancelled"
	case finish == "":
		finish = "error"
	}
	m.answers.WithLabelValues(r.Path, finish).Inc()
	for kind, n := range map[string]int{"prompt": r.Usage.Prompt, "cached": r.Usage.Cached, "completion": r.Usage.Completion, "reasoning": r.Usage.Reasoning} {
		m.tokens.WithLabelValues(kind).Add(float64(n))
	}
	if r.First > 0 {
		m.first.Observe(r.First.Seconds())
	}
	if n := r.Usage.Completion - 1; n > 0 {
		m.between.Observe((r.Total - r.First).Seconds() / float64(n))
	}
}
