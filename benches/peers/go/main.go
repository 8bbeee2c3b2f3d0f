// Go Asynq under the same load as `cargo run --example load`: one JSON line on
// standard output. See ../README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

type payload struct {
	N int `json:"n"`
	// Microseconds since the epoch at which a delayed job is due.
	Due int64 `json:"due,omitempty"`
}

// Result is the line that every peer prints.
type Result struct {
	Peer        string   `json:"peer"`
	Scenario    string   `json:"scenario"`
	Jobs        int      `json:"jobs"`
	Concurrency int      `json:"concurrency"`
	JobsPerS    *float64 `json:"jobs_per_s"`
	P50         *float64 `json:"p50_ms"`
	P99         *float64 `json:"p99_ms"`
	Max         *float64 `json:"max_ms"`
	Min         *float64 `json:"min_ms"`
	CPU         float64  `json:"cpu_s_per_10k"`
	RedisCPU    float64  `json:"redis_cpu_s_per_10k"`
	RSS         float64  `json:"peak_rss_mib"`
}

type bench struct {
	addr        string
	jobs        int
	concurrency int
	sleep       time.Duration
	redis       *redis.Client
	cpu, rcpu   float64
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// CPU seconds of this process.
func ownCPU() float64 {
	stat, err := os.ReadFile("/proc/self/stat")
	check(err)
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// CPU seconds of Redis.
func (b *bench) redisCPU() float64 {
	info, err := b.redis.Info(context.Background(), "cpu").Result()
	check(err)
	sum := 0.0
	for _, line := range strings.Split(info, "\r\n") {
		for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
			if value, found := strings.CutPrefix(line, name); found {
				seconds, _ := strconv.ParseFloat(value, 64)
				sum += seconds
			}
		}
	}
	return sum
}

func peakRSS() float64 {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func (b *bench) begin() { b.cpu, b.rcpu = ownCPU(), b.redisCPU() }

func (b *bench) end(scenario string) Result {
	per := 10000 / float64(b.jobs)
	return Result{
		Peer: "asynq", Scenario: scenario, Jobs: b.jobs, Concurrency: b.concurrency,
		CPU: (ownCPU() - b.cpu) * per, RedisCPU: (b.redisCPU() - b.rcpu) * per, RSS: peakRSS(),
	}
}

func (b *bench) rate(scenario string, took time.Duration) Result {
	result := b.end(scenario)
	rate := float64(b.jobs) / took.Seconds()
	result.JobsPerS = &rate
	return result
}

func (b *bench) spread(scenario string, all []float64) Result {
	result := b.end(scenario)
	sort.Float64s(all)
	at := func(part float64) *float64 {
		value := all[min(len(all)-1, int(part*float64(len(all))))]
		return &value
	}
	result.Min, result.P50, result.P99, result.Max = at(0), at(0.5), at(0.99), at(1)
	return result
}

func task(n int) *asynq.Task {
	bytes, err := json.Marshal(payload{N: n})
	check(err)
	return asynq.NewTask("noop", bytes)
}

// More connections than go-redis's own default did not help at 256 callers either
// (measured with 20 and 100).
func (b *bench) client() *asynq.Client {
	return asynq.NewClient(asynq.RedisClientOpt{Addr: b.addr})
}

func (b *bench) enqueue(callers int) time.Duration {
	client := b.client()
	defer client.Close()
	_, err := client.Enqueue(task(0), asynq.Queue("warm"))
	check(err)
	var next atomic.Int64
	var wait sync.WaitGroup
	b.begin()
	began := time.Now()
	for range callers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				n := int(next.Add(1)) - 1
				if n >= b.jobs {
					return
				}
				_, err := client.Enqueue(task(n))
				check(err)
			}
		}()
	}
	wait.Wait()
	return time.Since(began)
}

// What Asynq's enqueue script does; its batch call, which no release has yet, sends as
// many of these in one pipeline as it was given.
var enqueueScript = redis.NewScript(`
if redis.call("EXISTS", KEYS[1]) == 1 then
	return 0
end
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending", "pending_since", ARGV[3])
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1
`)

// A task message in protobuf: type, payload, id, queue, retries and timeout.
func message(id string, payload []byte) []byte {
	var bytes []byte
	field := func(tag byte, value string) {
		bytes = append(append(bytes, tag, byte(len(value))), value...)
	}
	field(0x0a, "noop")
	field(0x12, string(payload))
	field(0x1a, id)
	field(0x22, "default")
	return append(bytes, 0x28, 25, 0x40, 0x88, 0x0e)
}

func (b *bench) bulk(batch int) time.Duration {
	ctx := context.Background()
	check(enqueueScript.Load(ctx, b.redis).Err())
	var next atomic.Int64
	var wait sync.WaitGroup
	b.begin()
	began := time.Now()
	for range b.concurrency {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				first := int(next.Add(int64(batch))) - batch
				if first >= b.jobs {
					return
				}
				pipe := b.redis.Pipeline()
				for n := first; n < min(first+batch, b.jobs); n++ {
					bytes, err := json.Marshal(payload{N: n})
					check(err)
					id := uuid.NewString()
					keys := []string{"asynq:{default}:t:" + id, "asynq:{default}:pending"}
					enqueueScript.EvalSha(ctx, pipe, keys, message(id, bytes), id, time.Now().UnixNano())
				}
				_, err := pipe.Exec(ctx)
				check(err)
			}
		}()
	}
	wait.Wait()
	return time.Since(began)
}

func (b *bench) server(handler func(payload)) *asynq.Server {
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: b.addr}, asynq.Config{
		Concurrency: b.concurrency,
		LogLevel:    asynq.FatalLevel,
	})
	mux := asynq.NewServeMux()
	mux.HandleFunc("noop", func(_ context.Context, task *asynq.Task) error {
		var job payload
		if err := json.Unmarshal(task.Payload(), &job); err != nil {
			return err
		}
		handler(job)
		return nil
	})
	check(server.Start(mux))
	return server
}

// Whether no job waits or runs.
func (b *bench) empty() bool {
	ctx := context.Background()
	pipe := b.redis.Pipeline()
	pending, active := pipe.LLen(ctx, "asynq:{default}:pending"), pipe.LLen(ctx, "asynq:{default}:active")
	_, err := pipe.Exec(ctx)
	check(err)
	return pending.Val()+active.Val() == 0
}

func (b *bench) drain() Result {
	b.enqueue(64)
	ran := make([]atomic.Int32, b.jobs)
	var count, first atomic.Int64
	b.begin()
	server := b.server(func(job payload) {
		first.CompareAndSwap(0, time.Now().UnixNano())
		if b.sleep > 0 {
			time.Sleep(b.sleep)
		}
		ran[job.N].Add(1)
		count.Add(1)
	})
	for count.Load() < int64(b.jobs) || !b.empty() {
		time.Sleep(3 * time.Millisecond)
	}
	took := time.Since(time.Unix(0, first.Load()))
	result := b.rate("drain", took)
	server.Shutdown()
	for n := range ran {
		if times := ran[n].Load(); times != 1 {
			check(fmt.Errorf("job %d: expected to run once, found %d times", n, times))
		}
	}
	return result
}

func (b *bench) latency() Result {
	client := b.client()
	defer client.Close()
	returned := make([]int64, b.jobs)
	started := make([]int64, b.jobs)
	var wait sync.WaitGroup
	wait.Add(b.jobs)
	server := b.server(func(job payload) {
		started[job.N] = time.Now().UnixNano()
		wait.Done()
	})
	time.Sleep(2500 * time.Millisecond)
	b.begin()
	for n := range b.jobs {
		_, err := client.Enqueue(task(n))
		check(err)
		returned[n] = time.Now().UnixNano()
		time.Sleep(50 * time.Millisecond)
	}
	wait.Wait()
	all := make([]float64, b.jobs)
	for n := range all {
		all[n] = math.Max(0, float64(started[n]-returned[n])/1e6)
	}
	result := b.spread("latency", all)
	server.Shutdown()
	return result
}

func (b *bench) delay() Result {
	client := b.client()
	defer client.Close()
	late := make([]float64, b.jobs)
	var wait sync.WaitGroup
	wait.Add(b.jobs)
	b.concurrency = max(b.concurrency, 50)
	server := b.server(func(job payload) {
		late[job.N] = float64(time.Now().UnixMicro()-job.Due) / 1e3
		wait.Done()
	})
	b.begin()
	for n := range b.jobs {
		due := time.Now().Add(time.Duration(1e9 + rand.Int63n(5e9)))
		bytes, err := json.Marshal(payload{N: n, Due: due.UnixMicro()})
		check(err)
		_, err = client.Enqueue(asynq.NewTask("noop", bytes), asynq.ProcessAt(due))
		check(err)
	}
	wait.Wait()
	result := b.spread("delay", late)
	server.Shutdown()
	return result
}

// Enqueues only, for a program that runs it: each job says at which whole second Asynq has it due.
func (b *bench) schedule() Result {
	client := b.client()
	defer client.Close()
	b.begin()
	for n := range b.jobs {
		due := time.Now().Add(time.Duration(1e9 + rand.Int63n(5e9)))
		stored := due.Unix()
		if stored <= time.Now().Unix() {
			stored++ // It has begun: the job is to start by the next one.
		}
		bytes, err := json.Marshal(payload{N: n, Due: stored * 1e6})
		check(err)
		_, err = client.Enqueue(asynq.NewTask("noop", bytes), asynq.ProcessAt(due))
		check(err)
	}
	return b.spread("schedule", make([]float64, b.jobs))
}

func main() {
	if len(os.Args) < 2 {
		check(fmt.Errorf("usage: asynq-peer SCENARIO --redis URL --jobs N --concurrency C"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	url := flags.String("redis", "redis://127.0.0.1:6379", "where Redis is")
	jobs := flags.Int("jobs", 50000, "how many")
	concurrency := flags.Int("concurrency", 10, "callers, or jobs at a time")
	batch := flags.Int("batch", 1000, "jobs of one pipeline")
	sleep := flags.Float64("sleep-ms", 0, "how long a handler sleeps")
	check(flags.Parse(os.Args[2:]))
	options, err := redis.ParseURL(*url)
	check(err)
	b := &bench{
		addr: options.Addr, jobs: *jobs, concurrency: *concurrency,
		sleep: time.Duration(*sleep * 1e6), redis: redis.NewClient(options),
	}
	var result Result
	switch os.Args[1] {
	case "enqueue-one":
		result = b.rate("enqueue-one", b.enqueue(1))
	case "enqueue-concurrent":
		result = b.rate("enqueue-concurrent", b.enqueue(*concurrency))
	case "enqueue-bulk":
		result = b.rate("enqueue-bulk", b.bulk(*batch))
	case "fill":
		result = b.rate("fill", b.enqueue(64))
	case "drain":
		result = b.drain()
	case "latency":
		result = b.latency()
	case "delay":
		result = b.delay()
	case "schedule":
		result = b.schedule()
	default:
		check(fmt.Errorf("scenario: expected enqueue-one, enqueue-concurrent, enqueue-bulk, fill, drain, latency, delay or schedule, found %q", os.Args[1]))
	}
	check(json.NewEncoder(os.Stdout).Encode(result))
}
