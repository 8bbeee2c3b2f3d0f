// asynqmon's own HTTP handler on a port of this machine, as its released
// program serves it: with the Asynq version it pins.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: asynqmon <redis address> <Prometheus address or nothing>")
		os.Exit(1)
	}
	handler := asynqmon.New(asynqmon.Options{
		RedisConnOpt:      asynq.RedisClientOpt{Addr: os.Args[1]},
		PrometheusAddress: os.Args[2],
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The first line tells where.
	fmt.Println(listener.Addr())
	if err := http.Serve(listener, handler); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
