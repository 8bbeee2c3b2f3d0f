package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// How a worker is set up.
type workSettings struct {
	Queues      map[string]int `json:"queues"`
	Strict      bool           `json:"strict"`
	Concurrency int            `json:"concurrency"`
	Ledger      string         `json:"ledger"`
	// Milliseconds between an attempt's failure and the next one.
	RetryDelay int64 `json:"retry_delay"`
	Aggregate  bool  `json:"aggregate"`
	// Seconds, as in Asynq's configuration.
	GroupGrace    int64 `json:"group_grace"`
	GroupMaxDelay int64 `json:"group_max_delay"`
	GroupMaxSize  int   `json:"group_max_size"`
}

// What a task's payload asks of its handler. Any other payload succeeds.
type behaviour struct {
	Do string `json:"do"`
	// How many attempts fail.
	Times int `json:"times"`
	// How long it runs, in milliseconds.
	Ms     int64  `json:"ms"`
	Result string `json:"result"`
}

// One line of the ledger, written whole by one call.
type line struct {
	Peer     string            `json:"peer"`
	Event    string            `json:"event"`
	ID       string            `json:"id"`
	Type     string            `json:"type"`
	Queue    string            `json:"queue"`
	Retried  int               `json:"retried"`
	MaxRetry int               `json:"max_retry"`
	Hex      string            `json:"hex"`
	Headers  map[string]string `json:"headers"`
	Deadline int64             `json:"deadline"`
	At       int64             `json:"at"`
	Word     string            `json:"word"`
}

func work(redis asynq.RedisConnOpt, raw []byte) error {
	var settings workSettings
	if err := json.Unmarshal(raw, &settings); err != nil {
		return err
	}
	ledger, err := os.OpenFile(settings.Ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	var batch atomic.Int64
	config := asynq.Config{
		Concurrency:              settings.Concurrency,
		Queues:                   settings.Queues,
		StrictPriority:           settings.Strict,
		TaskCheckInterval:        100 * time.Millisecond,
		DelayedTaskCheckInterval: 500 * time.Millisecond,
		JanitorInterval:          time.Second,
		LogLevel:                 asynq.WarnLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration {
			return time.Duration(settings.RetryDelay) * time.Millisecond
		},
	}
	if settings.Aggregate {
		config.GroupGracePeriod = time.Duration(settings.GroupGrace) * time.Second
		config.GroupMaxDelay = time.Duration(settings.GroupMaxDelay) * time.Second
		config.GroupMaxSize = settings.GroupMaxSize
		config.GroupAggregator = asynq.GroupAggregatorFunc(func(group string, list []*asynq.Task) *asynq.Task {
			members := []string{}
			for _, t := range list {
				members = append(members, string(t.Payload()))
				if string(t.Payload()) == "hang" {
					// To be killed in.
					fmt.Fprintln(os.Stderr, "hangs while it aggregates")
					select {}
				}
			}
			payload, _ := json.Marshal(map[string]any{"group": group, "members": members})
			return asynq.NewTask("interop:batch", payload,
				asynq.TaskID(fmt.Sprintf("batch-go-%s-%d", group, batch.Add(1))))
		})
	}
	server := asynq.NewServer(redis, config)
	handler := func(ctx context.Context, t *asynq.Task) error { return handle(ctx, t, ledger) }
	if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
		return err
	}
	untilTerm()
	server.Shutdown()
	return nil
}

func handle(ctx context.Context, t *asynq.Task, ledger *os.File) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	retried, _ := asynq.GetRetryCount(ctx)
	maxRetry, _ := asynq.GetMaxRetry(ctx)
	deadline, _ := ctx.Deadline()
	note := func(event, word string) {
		text, _ := json.Marshal(line{
			Peer: "go", Event: event, ID: id, Type: t.Type(), Queue: queue, Retried: retried,
			MaxRetry: maxRetry, Hex: hex.EncodeToString(t.Payload()), Headers: t.Headers(),
			Deadline: deadline.Unix(), At: time.Now().UnixMilli(), Word: word,
		})
		if _, err := ledger.Write(append(text, '\n')); err != nil {
			fail(err)
		}
	}
	var wish behaviour
	// A payload that is not a JSON object asks for nothing.
	_ = json.Unmarshal(t.Payload(), &wish)
	note("start", "")
	switch wish.Do {
	case "fail":
		if retried < wish.Times {
			note("end", "failed")
			return fmt.Errorf("failed on purpose: attempt %d", retried+1)
		}
	case "skip":
		note("end", "skipped")
		return fmt.Errorf("never again: %w", asynq.SkipRetry)
	case "revoke":
		note("end", "revoked")
		return fmt.Errorf("pointless: %w", asynq.RevokeTask)
	case "panic":
		note("end", "panicked")
		panic("panicked on purpose")
	case "report", "sleep":
		if wish.Do == "report" {
			if _, err := t.ResultWriter().Write([]byte(wish.Result)); err != nil {
				return errors.Join(errors.New("result"), err)
			}
			note("reported", "")
		}
		select {
		case <-time.After(time.Duration(wish.Ms) * time.Millisecond):
		case <-ctx.Done():
			note("end", "stopped")
			return ctx.Err()
		}
	}
	if wish.Result != "" && wish.Do != "report" {
		if _, err := t.ResultWriter().Write([]byte(wish.Result)); err != nil {
			return errors.Join(errors.New("result"), err)
		}
	}
	note("end", "done")
	return nil
}
