import java.nio.file.Files;
import java.nio.file.Path;
import org.jetbrains.kotlin.cli.common.ExitCode;
import org.jetbrains.kotlin.cli.jvm.K2JVMCompiler;

/** Runs the Kotlin compiler once per line of a file, arguments apart by tabs: starting it costs more than a small file. */
public class CompileMany {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            if (new K2JVMCompiler().exec(System.err, line.split("\t")) != ExitCode.OK) {
                System.err.println("failed: " + line);
                System.exit(1);
            }
        }
    }
}
