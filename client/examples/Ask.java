// Asks about a text over gRPC. Make the package `inference` first, out of the protocol's own files
// (protobuf/ of github.com/triton-inference-server/common), with protoc and its plugin for Java:
//
//	protoc --java_out=built --grpc-java_out=built grpc_service.proto model_config.proto
//	javac -d built $(find built -name '*.java') Ask.java
//	java -cp built:... Ask "my card was stolen"
//
// The libraries are grpc-netty, grpc-protobuf, grpc-stub and what they need; in Debian `libgrpc-java`.

import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.InferTensorContents;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferResponse;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.nio.ByteOrder;
import java.util.concurrent.TimeUnit;

public final class Ask {
    /** Triton writes the strings of a tensor one after the other, each behind its length in four bytes. */
    private static String stringOf(ByteString raw) {
        int length = raw.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).getInt();
        return raw.substring(4, 4 + length).toStringUtf8();
    }

    public static void main(String[] texts) throws InterruptedException {
        String place = System.getenv().getOrDefault("PERENNIAL_GRPC", "127.0.0.1:8001");
        ManagedChannel channel = ManagedChannelBuilder.forTarget(place).usePlaintext().build();
        ModelInferRequest.InferInputTensor text = ModelInferRequest.InferInputTensor.newBuilder()
            .setName("TEXT").setDatatype("BYTES").addShape(1).addShape(1)
            .setContents(InferTensorContents.newBuilder().addBytesContents(ByteString.copyFromUtf8(texts[0])))
            .build();
        ModelInferRequest.Builder request = ModelInferRequest.newBuilder().setModelName("intent").addInputs(text);
        for (String output : new String[] {"LABEL", "PREDICTION_ID"}) {
            request.addOutputs(ModelInferRequest.InferRequestedOutputTensor.newBuilder().setName(output));
        }
        try {
            ModelInferResponse answer = GRPCInferenceServiceGrpc.newBlockingStub(channel)
                .withDeadlineAfter(30, TimeUnit.SECONDS).modelInfer(request.build());
            for (int at = 0; at < answer.getOutputsCount(); at++) {
                System.out.println(answer.getOutputs(at).getName() + " " + stringOf(answer.getRawOutputContents(at)));
            }
        } catch (StatusRuntimeException error) {  // UNAVAILABLE is worth another try; its text says after how long
            System.err.println(error.getStatus());
            System.exit(1);
        } finally {
            channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
        }
    }
}
