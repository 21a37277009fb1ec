// Asks about a text over gRPC. Make the package `inference` first, out of the protocol's own file
// (protobuf/grpc_service.proto of github.com/triton-inference-server/common):
//
//	protoc --go_out=. --go-grpc_out=. --go_opt=Mgrpc_service.proto=./inference \
//	    --go-grpc_opt=Mgrpc_service.proto=./inference grpc_service.proto
//	go run ask.go "my card was stolen"
//
// The tests of this repository do not compile this file: they have no Go.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.org/ask/inference"
)

// Triton writes the strings of a tensor one after the other, each behind its length in four bytes.
func stringOf(raw []byte) string {
	length := binary.LittleEndian.Uint32(raw)
	return string(raw[4 : 4+length])
}

func main() {
	connection, err := grpc.NewClient("127.0.0.1:8001", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	answer, err := inference.NewGRPCInferenceServiceClient(connection).ModelInfer(ctx, &inference.ModelInferRequest{
		ModelName: "intent",
		Inputs: []*inference.ModelInferRequest_InferInputTensor{{
			Name: "TEXT", Datatype: "BYTES", Shape: []int64{1, 1},
			Contents: &inference.InferTensorContents{BytesContents: [][]byte{[]byte(os.Args[1])}},
		}},
		Outputs: []*inference.ModelInferRequest_InferRequestedOutputTensor{{Name: "LABEL"}, {Name: "PREDICTION_ID"}},
	})
	if err != nil { // UNAVAILABLE is worth another try; its message says after how many seconds
		log.Fatal(err)
	}
	for place, output := range answer.Outputs {
		fmt.Println(output.Name, stringOf(answer.RawOutputContents[place]))
	}
}
