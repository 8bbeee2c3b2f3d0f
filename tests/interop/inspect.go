package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

// A question to Asynq's Inspector, by the name of its method.
type question struct {
	Call    string `json:"call"`
	Queue   string `json:"queue"`
	ID      string `json:"id"`
	Group   string `json:"group"`
	Payload string `json:"payload"`
	Days    int    `json:"days"`
	Page    int    `json:"page"`
	Size    int    `json:"size"`
	Force   bool   `json:"force"`
}

func describe(t *asynq.TaskInfo) map[string]any {
	return map[string]any{
		"id": t.ID, "queue": t.Queue, "type": t.Type, "hex": hex.EncodeToString(t.Payload),
		"headers": t.Headers, "state": t.State.String(), "max_retry": t.MaxRetry,
		"retried": t.Retried, "last_error": t.LastErr, "last_failed_at": unix(t.LastFailedAt),
		"timeout": t.Timeout.Seconds(), "deadline": unix(t.Deadline), "group": t.Group,
		"next": unix(t.NextProcessAt), "orphaned": t.IsOrphaned,
		"retention": t.Retention.Seconds(), "completed_at": unix(t.CompletedAt),
		"result": hex.EncodeToString(t.Result),
	}
}

// Asynq's zero time and Unix' beginning both mean "none" there.
func unix(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}

func tasks(list []*asynq.TaskInfo, err error) (any, error) {
	rows := []map[string]any{}
	for _, t := range list {
		rows = append(rows, describe(t))
	}
	return rows, err
}

func options(list []asynq.Option) []string {
	texts := []string{}
	for _, option := range list {
		texts = append(texts, option.String())
	}
	return texts
}

func inspect(redis asynq.RedisConnOpt) error {
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	return eachLine(func(q question) (any, error) { return ask(inspector, q) })
}

func ask(i *asynq.Inspector, q question) (any, error) {
	page := []asynq.ListOption{}
	if q.Size > 0 {
		page = append(page, asynq.PageSize(q.Size), asynq.Page(max(q.Page, 1)))
	}
	switch q.Call {
	case "Queues":
		return i.Queues()
	case "GetQueueInfo":
		return i.GetQueueInfo(q.Queue)
	case "GetTaskInfo":
		info, err := i.GetTaskInfo(q.Queue, q.ID)
		if err != nil {
			return nil, err
		}
		return describe(info), nil
	case "History":
		return i.History(q.Queue, q.Days)
	case "Groups":
		return i.Groups(q.Queue)
	case "ListPendingTasks":
		return tasks(i.ListPendingTasks(q.Queue, page...))
	case "ListActiveTasks":
		return tasks(i.ListActiveTasks(q.Queue, page...))
	case "ListScheduledTasks":
		return tasks(i.ListScheduledTasks(q.Queue, page...))
	case "ListRetryTasks":
		return tasks(i.ListRetryTasks(q.Queue, page...))
	case "ListArchivedTasks":
		return tasks(i.ListArchivedTasks(q.Queue, page...))
	case "ListCompletedTasks":
		return tasks(i.ListCompletedTasks(q.Queue, page...))
	case "ListAggregatingTasks":
		return tasks(i.ListAggregatingTasks(q.Queue, q.Group, page...))
	case "Servers":
		return i.Servers()
	case "SchedulerEntries":
		return entries(i)
	case "ListSchedulerEnqueueEvents":
		return i.ListSchedulerEnqueueEvents(q.ID, page...)
	case "RunTask":
		return nil, i.RunTask(q.Queue, q.ID)
	case "ArchiveTask":
		return nil, i.ArchiveTask(q.Queue, q.ID)
	case "DeleteTask":
		return nil, i.DeleteTask(q.Queue, q.ID)
	case "UpdateTaskPayload":
		return nil, i.UpdateTaskPayload(q.Queue, q.ID, []byte(q.Payload))
	case "CancelProcessing":
		return nil, i.CancelProcessing(q.ID)
	case "PauseQueue":
		return nil, i.PauseQueue(q.Queue)
	case "UnpauseQueue":
		return nil, i.UnpauseQueue(q.Queue)
	case "DeleteQueue":
		return nil, i.DeleteQueue(q.Queue, q.Force)
	case "RunAllScheduledTasks":
		return i.RunAllScheduledTasks(q.Queue)
	case "RunAllRetryTasks":
		return i.RunAllRetryTasks(q.Queue)
	case "RunAllArchivedTasks":
		return i.RunAllArchivedTasks(q.Queue)
	case "RunAllAggregatingTasks":
		return i.RunAllAggregatingTasks(q.Queue, q.Group)
	case "ArchiveAllPendingTasks":
		return i.ArchiveAllPendingTasks(q.Queue)
	case "ArchiveAllScheduledTasks":
		return i.ArchiveAllScheduledTasks(q.Queue)
	case "ArchiveAllRetryTasks":
		return i.ArchiveAllRetryTasks(q.Queue)
	case "ArchiveAllAggregatingTasks":
		return i.ArchiveAllAggregatingTasks(q.Queue, q.Group)
	case "DeleteAllPendingTasks":
		return i.DeleteAllPendingTasks(q.Queue)
	case "DeleteAllScheduledTasks":
		return i.DeleteAllScheduledTasks(q.Queue)
	case "DeleteAllRetryTasks":
		return i.DeleteAllRetryTasks(q.Queue)
	case "DeleteAllArchivedTasks":
		return i.DeleteAllArchivedTasks(q.Queue)
	case "DeleteAllCompletedTasks":
		return i.DeleteAllCompletedTasks(q.Queue)
	case "DeleteAllAggregatingTasks":
		return i.DeleteAllAggregatingTasks(q.Queue, q.Group)
	}
	return nil, fmt.Errorf("unknown call %q", q.Call)
}

func entries(i *asynq.Inspector) (any, error) {
	list, err := i.SchedulerEntries()
	rows := []map[string]any{}
	for _, e := range list {
		rows = append(rows, map[string]any{
			"id": e.ID, "spec": e.Spec, "type": e.Task.Type(), "payload": string(e.Task.Payload()),
			"options": options(e.Opts), "next": unix(e.Next), "prev": unix(e.Prev),
		})
	}
	return rows, err
}
