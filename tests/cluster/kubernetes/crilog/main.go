// Command crilog reads container logs as the kubelet does, with the kubelet's own reader.
//
// Each line of stdin is a request in JSON, and each line of stdout the answer to it. The body of an
// answer is what the kubelet's HTTP server would send: the output, and after it the reader's error.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
)

type request struct {
	Path       string `json:"path"`
	Follow     bool   `json:"follow"`
	Timestamps bool   `json:"timestamps"`
	Since      string `json:"since"`
	Tail       *int64 `json:"tail"`
	Limit      *int64 `json:"limit"`
	Steps      []step `json:"steps"`
	Failure    string `json:"failure"`
}

// step is what happens to the log each time that its follower has read all of it: bytes are
// appended, after the file was renamed and begun again if it is rotated.
type step struct {
	Append []byte `json:"append"`
	Rotate bool   `json:"rotate"`
}

// runtime is a container that runs until its steps are done; then it has ended, or its status fails.
//
// The reader asks for its status each time before it waits for an event of the log's folder. A
// rotation is several events, and the reader opens the new file at the last but one.
type runtime struct {
	internalapi.RuntimeService
	request request
	next    int
	waits   int
}

const eventsOfRotation = 4

func (r *runtime) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	state := runtimeapi.ContainerState_CONTAINER_RUNNING
	if r.waits > 0 {
		r.waits--
	} else if r.next == len(r.request.Steps) {
		if r.request.Failure != "" {
			return nil, errors.New(r.request.Failure)
		}
		state = runtimeapi.ContainerState_CONTAINER_EXITED
	} else if err := r.request.Steps[r.next].apply(r.request.Path); err != nil {
		return nil, err
	} else {
		if r.request.Steps[r.next].Rotate {
			r.waits = eventsOfRotation - 1
		}
		r.next++
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{State: state}}, nil
}

func (s step) apply(path string) error {
	if s.Rotate {
		if err := os.Rename(path, path+".rotated"); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(s.Append)
	return err
}

func answer(wanted request) ([]byte, error) {
	options := &v1.PodLogOptions{
		Follow:     wanted.Follow,
		Timestamps: wanted.Timestamps,
		TailLines:  wanted.Tail,
		LimitBytes: wanted.Limit,
	}
	if wanted.Since != "" {
		since, err := time.Parse(time.RFC3339, wanted.Since)
		if err != nil {
			return nil, err
		}
		options.SinceTime = &metav1.Time{Time: since}
	}
	var body bytes.Buffer
	logger := klog.Background()
	container := &runtime{request: wanted}
	parsed := logs.NewLogOptions(options, time.Now())
	err := logs.ReadLogs(context.Background(), &logger, wanted.Path, "id", parsed, container, &body, &body)
	if err != nil {
		body.WriteString(err.Error())
	}
	return body.Bytes(), nil
}

func main() {
	klog.SetOutput(os.Stderr)
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for in.More() {
		var wanted request
		err := in.Decode(&wanted)
		var body []byte
		if err == nil {
			body, err = answer(wanted)
		}
		if err == nil {
			err = out.Encode(map[string][]byte{"body": body})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "crilog:", err)
			os.Exit(1)
		}
	}
}
