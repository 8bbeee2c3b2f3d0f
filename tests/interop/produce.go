package main

import (
	"encoding/hex"
	"time"

	"github.com/hibiken/asynq"
)

// A task to enqueue: every option of Asynq's client.
type order struct {
	Type string `json:"type"`
	// Absent is Go's nil, which has a unique key of its own.
	Payload *string `json:"payload"`
	// The payload in hexadecimal digits, if it is not text.
	Hex       string            `json:"hex"`
	Headers   map[string]string `json:"headers"`
	Queue     string            `json:"queue"`
	ID        string            `json:"id"`
	MaxRetry  *int              `json:"max_retry"`
	Timeout   int64             `json:"timeout"`
	Deadline  int64             `json:"deadline"`
	Retention int64             `json:"retention"`
	Unique    int64             `json:"unique"`
	Group     string            `json:"group"`
	In        int64             `json:"in"`
	At        int64             `json:"at"`
}

func (o order) task() *asynq.Task {
	var payload []byte
	if o.Payload != nil {
		payload = []byte(*o.Payload)
	}
	if o.Hex != "" {
		payload, _ = hex.DecodeString(o.Hex)
	}
	if o.Headers != nil {
		return asynq.NewTaskWithHeaders(o.Type, payload, o.Headers)
	}
	return asynq.NewTask(o.Type, payload)
}

func (o order) options() []asynq.Option {
	var options []asynq.Option
	add := func(wanted bool, option func() asynq.Option) {
		if wanted {
			options = append(options, option())
		}
	}
	seconds := func(n int64) time.Duration { return time.Duration(n) * time.Second }
	add(o.Queue != "", func() asynq.Option { return asynq.Queue(o.Queue) })
	add(o.ID != "", func() asynq.Option { return asynq.TaskID(o.ID) })
	add(o.MaxRetry != nil, func() asynq.Option { return asynq.MaxRetry(*o.MaxRetry) })
	add(o.Timeout != 0, func() asynq.Option { return asynq.Timeout(seconds(o.Timeout)) })
	add(o.Deadline != 0, func() asynq.Option { return asynq.Deadline(time.Unix(o.Deadline, 0)) })
	add(o.Retention != 0, func() asynq.Option { return asynq.Retention(seconds(o.Retention)) })
	add(o.Unique != 0, func() asynq.Option { return asynq.Unique(seconds(o.Unique)) })
	add(o.Group != "", func() asynq.Option { return asynq.Group(o.Group) })
	add(o.In != 0, func() asynq.Option { return asynq.ProcessIn(seconds(o.In)) })
	add(o.At != 0, func() asynq.Option { return asynq.ProcessAt(time.Unix(o.At, 0)) })
	return options
}

func produce(redis asynq.RedisConnOpt) error {
	client := asynq.NewClient(redis)
	defer client.Close()
	return eachLine(func(o order) (any, error) {
		info, err := client.Enqueue(o.task(), o.options()...)
		if err != nil {
			return nil, err
		}
		return describe(info), nil
	})
}
