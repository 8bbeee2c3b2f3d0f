// The Go side of the interoperation tests: Asynq's own client, server,
// scheduler and inspector, driven by the Rust test program through JSON lines.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hibiken/asynq"
)

const usage = `usage: peer <command> <redis address> [settings as JSON]

  produce   enqueue the tasks that standard input names, one JSON object a line
  inspect   answer the questions of standard input, one JSON object a line
  work      run tasks until SIGTERM
  schedule  run a scheduler, or a periodic task manager, until SIGTERM`

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("%s", usage))
	}
	redis := asynq.RedisClientOpt{Addr: os.Args[2]}
	settings := []byte("{}")
	if len(os.Args) > 3 {
		settings = []byte(os.Args[3])
	}
	var err error
	switch os.Args[1] {
	case "produce":
		err = produce(redis)
	case "inspect":
		err = inspect(redis)
	case "work":
		err = work(redis, settings)
	case "schedule":
		err = schedule(redis, settings)
	default:
		err = fmt.Errorf("%s", usage)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Answers each line of standard input with a line of standard output: what the
// function returned, or its error.
func eachLine[T any](answer func(T) (any, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var question T
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			return err
		}
		value, err := answer(question)
		reply := map[string]any{"ok": value}
		if err != nil {
			reply = map[string]any{"error": err.Error()}
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Says that everything is in place, and waits for the end.
func untilTerm() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("ready")
	<-stop
}
