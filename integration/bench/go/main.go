// HashiCorp's client doing what `bench client` does: members or events, count times, and one line of
// JSON that says what it took.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/serf/client"
)

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: go-client members|events ADDR COUNT")
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	agent, err := client.NewRPCClient(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var before int64
	items := 0
	switch os.Args[1] {
	case "members":
		if _, err := agent.Members(); err != nil {
			log.Fatal(err)
		}
		before = cpu()
		for i := 0; i < count; i++ {
			members, err := agent.Members()
			if err != nil {
				log.Fatal(err)
			}
			items += len(members)
		}
	case "events":
		// The client drops what does not fit.
		events := make(chan map[string]interface{}, count)
		if _, err := agent.Stream("*", events); err != nil {
			log.Fatal(err)
		}
		if _, err := agent.Stats(); err != nil {
			log.Fatal(err)
		}
		before = cpu()
		fmt.Println("ready")
		// One ticker for all: a timer for each would cost more than all the rest.
		silence := time.NewTicker(5 * time.Second)
		last := -1
	receive:
		for items < count {
			select {
			case <-events:
				items++
			case <-silence.C:
				if items == last {
					break receive
				}
				last = items
			}
		}
	}
	fmt.Printf("{\"items\":%d,\"cpu_ns\":%d}\n", items, cpu()-before)
}
