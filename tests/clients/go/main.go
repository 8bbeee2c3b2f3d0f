// Calls the application through a client that oapi-codegen made of its document.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"clients/api"
)

func must[T any](answer T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return answer
}

func expect(what string, found, expected int) {
	if found != expected {
		must(0, fmt.Errorf("%s: expected %d, found %d", what, expected, found))
	}
}

func main() {
	base, token := os.Args[1], os.Args[2]
	bearer := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	client := must(api.NewClientWithResponses(base, api.WithRequestEditorFn(bearer)))
	ctx := context.Background()

	message, delay := "from Go", uint64(3600)
	registered := must(client.RegisterDemoJobWithResponse(ctx, nil, api.RegisterDemoJobJSONRequestBody{
		Message: &message, DelaySeconds: &delay,
	}))
	expect("register", registered.StatusCode(), 201)
	id := registered.JSON201.JobId

	state, size := api.ListJobsParamsState("scheduled"), 100
	jobs := must(client.ListJobsWithResponse(ctx, "default", &api.ListJobsParams{State: &state, Size: &size}))
	expect("list", jobs.StatusCode(), 200)
	listed := false
	for _, row := range jobs.JSON200.Rows {
		job := must(row.AsJobQueueJobRowJob())
		if job.Row == "job" && job.Id == id {
			listed = string(job.State) == "scheduled" && job.Due != nil
		}
	}
	if !listed {
		must(0, fmt.Errorf("list: job %s is not there", id))
	}

	job := must(client.GetJobWithResponse(ctx, "default", id, nil))
	expect("get", job.StatusCode(), 200)
	expect("pause", must(client.PauseQueueWithResponse(ctx, "default")).StatusCode(), 204)
	queue := must(client.GetQueueWithResponse(ctx, "default"))
	if queue.JSON200 == nil || !queue.JSON200.Paused {
		must(0, fmt.Errorf("the queue is not paused: %s", queue.Body))
	}
	duplicate := must(client.DuplicateJobWithResponse(ctx, "default", id))
	expect("duplicate", duplicate.StatusCode(), 201)
	copied := duplicate.JSON201.JobId
	expect("archive", must(client.ArchiveJobWithResponse(ctx, "default", copied)).StatusCode(), 204)
	expect("delete", must(client.DeleteJobWithResponse(ctx, "default", copied)).StatusCode(), 204)
	expect("run", must(client.RunJobWithResponse(ctx, "default", id)).StatusCode(), 204)
	expect("resume", must(client.ResumeQueueWithResponse(ctx, "default")).StatusCode(), 204)
	expect("repair", must(client.RepairStoreWithResponse(ctx)).StatusCode(), 200)
	other := "made-in-go"
	enqueued := must(client.EnqueueDemoDelayPrintWithResponse(ctx,
		&api.EnqueueDemoDelayPrintParams{Queue: &other}, map[string]any{}))
	expect("enqueue", enqueued.StatusCode(), 201)
	force := true
	removed := must(client.DeleteQueueWithResponse(ctx, other, &api.DeleteQueueParams{Force: &force}))
	expect("delete queue", removed.StatusCode(), 204)
	periodic := must(client.ListPeriodicWithResponse(ctx))
	expect("list periodic jobs", periodic.StatusCode(), 200)
	expect("run periodic job",
		must(client.RunPeriodicWithResponse(ctx, periodic.JSON200.Periodic[0].Id)).StatusCode(), 201)
	missing := must(client.DeleteJobWithResponse(ctx, "default", copied))
	if missing.ApplicationproblemJSON404 == nil {
		must(0, fmt.Errorf("delete again: expected a problem, found %d", missing.StatusCode()))
	}
	fmt.Println("Go: 16 calls")
}
